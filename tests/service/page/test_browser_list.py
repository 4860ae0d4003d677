"""The list of videos in Chromium: several at once, their place in line, and what is said when they are done.

The fixture ``opened`` ends every test with two checks: no error in the console, no request to another host.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.service.page.films import answer, job_answer
from tests.service.page.steps import Open, read, until

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.slow


def job(number: int, state: str, **others: Any) -> dict[str, Any]:
    """The job that was sent as the ``number``-th, from 1."""
    known = {"id": f"{number:016x}", "state": state, "created": float(number), "progress": 0.5, "results": []}
    return job_answer(f"film-{number}.mp4", **known, **others)


def videos(folder: Path, count: int) -> list[Path]:
    """Files that are called videos; nothing reads them here."""
    paths = [folder / f"film-{number}.mp4" for number in range(1, count + 1)]
    for path in paths:
        path.write_bytes(b"film")
    return paths


class Line:
    """Stands for the service's routes of jobs: nothing is read, each upload waits until it is let through."""

    def __init__(self, page: Page) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.held: list[Route] = []
        page.route("**/v1/jobs", lambda route: answer(self.jobs)(route))
        page.route("**/v1/jobs/*/events", lambda route: None)
        page.route("**/v1/videos?*", lambda route: self.held.append(route))
        page.route("**/v1/videos/capacity", lambda route: route.fulfill(status=204))

    def let(self, page: Page, state: str) -> None:
        """Take the upload that is on its way."""
        for _ in range(1200):
            if self.held:
                break
            page.wait_for_timeout(50)
        taken = job(len(self.jobs) + 1, state)
        self.jobs.append(taken)
        answer({"job": taken}, 202)(self.held.pop(0))


DROP = """([selector, names]) => {
  const data = new DataTransfer();
  for (const [name, type] of names) data.items.add(new File(["film"], name, { type }));
  const target = document.querySelector(selector);
  for (const name of ["dragover", "drop"])
    target.dispatchEvent(new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.mark.parametrize("how", ["chosen", "dropped"])
def test_several_videos_at_once_are_all_sent_and_say_their_place_in_line(
    opened: Open, tmp_path: Path, how: str
) -> None:
    page = opened()
    line = Line(page)
    if how == "chosen":
        page.locator("#tab-video").click()
        page.set_input_files("#video-file", videos(tmp_path, 3))
    else:
        page.evaluate(DROP, ["#picture-drop", [[f"film-{number}.mp4", "video/mp4"] for number in (1, 2, 3)]])
    rows = page.locator(".job")

    def texts() -> dict[str, str]:
        return {row.locator(".title").inner_text(): row.locator(".text").inner_text() for row in rows.all()}

    until(page, "document.querySelectorAll('.job').length === 3")
    assert page.get_attribute("#tab-video", "aria-selected") == "true"
    assert {name: text for name, text in texts().items() if name != "film-1.mp4"} == dict.fromkeys(
        ("film-2.mp4", "film-3.mp4"), "Waiting to be sent · 4 B"
    )
    line.let(page, "running")
    line.let(page, "queued")
    line.let(page, "queued")
    page.get_by_text("number 2 in line").wait_for()
    assert texts() == {
        "film-3.mp4": "Waiting · number 2 in line",
        "film-2.mp4": "Waiting · number 1 in line",
        "film-1.mp4": "Reading · 50%",
    }
    bars = rows.evaluate_all("rows => rows.map(row => !row.querySelector('progress').hidden)")
    icons = rows.evaluate_all("rows => rows.map(row => row.querySelector('use').getAttribute('href'))")
    assert (bars, icons) == ([False, False, True], ["#i-clock", "#i-clock", "#i-video"])  # the newest is at the top
    assert page.locator(".notice").count() == 0


@pytest.mark.parametrize(
    ("address", "uploads"), [("**/v1/videos/capacity", 1), ("**/v1/videos?*", 2)], ids=["asked first", "refused"]
)
def test_a_video_for_which_there_is_no_room_waits_for_it(
    opened: Open, tmp_path: Path, address: str, uploads: int
) -> None:
    """A full queue is asked about before a large file is sent; one that fills up meanwhile refuses the upload."""
    page = opened("#video", expected=("status of 429",))
    line = Line(page)
    full = {"name": "jobs", "problem": "20 wait already", "hint": "try again", "code": "queue_full", "parameters": {}}
    asked, sent = [], []
    page.on("request", lambda request: sent.append(request) if "/v1/videos?" in request.url else None)

    def refuse_once(route: Route) -> None:
        asked.append(route)
        answer({"error": full}, 429)(route) if len(asked) == 1 else route.fallback()

    page.route(address, refuse_once)
    page.set_input_files("#video-file", videos(tmp_path, 1))
    page.get_by_text("Waiting to be sent").wait_for()
    line.let(page, "queued")
    page.get_by_text("Waiting · number 1 in line").wait_for()
    assert (len(asked), len(sent)) == (2, uploads)


def test_an_upload_that_fails_stays_in_the_list_and_the_next_one_is_sent(opened: Open, tmp_path: Path) -> None:
    page = opened("#video", expected=("status of 415",))
    line = Line(page)
    page.set_input_files("#video-file", videos(tmp_path, 2))
    for _ in range(1200):
        if line.held:
            break
        page.wait_for_timeout(50)
    error = {"name": "film-1.mp4", "problem": "is a picture, not a video", "hint": "send it to /v1/images"}
    answer({"error": error}, 415)(line.held.pop(0))
    row = page.locator(".job[data-kind^=failed]")
    row.wait_for()
    assert row.locator(".text").inner_text() == "Failed: is a picture, not a video; send it to /v1/images"
    line.jobs.append(job(1, "done"))
    line.let(page, "queued")
    page.get_by_text("number 1 in line").wait_for()
    row.get_by_role("button", name="Remove film-1.mp4").click()
    row.wait_for(state="detached")
    assert page.locator(".notice").count() == 0


def finish(page: Page, line: Line, tab: str) -> None:
    """Have fifteen jobs end, two of them badly, while another tab, or the list, is open."""
    error = {"name": "film", "problem": "is broken", "hint": "send another"}
    line.jobs = [job(number, "running") for number in range(1, 16)]

    def end(route: Route) -> None:
        number = int(re.search(r"jobs/(\w+)/", route.request.url)[1], 16)
        state = {"state": "failed", "error": error} if number in (4, 9) else {"state": "done"}
        line.jobs[number - 1] |= state
        body = f"event: job\ndata: {json.dumps(line.jobs[number - 1])}\n\n"
        route.fulfill(status=200, content_type="text/event-stream", body=body)

    page.route("**/v1/jobs/*/events", end)
    address = page.url.split("#")[0] + tab
    page.goto("about:blank")  # loaded once: a first load would hear of ends that the second finds in the list
    page.goto(address)
    page.wait_for_selector("html[data-ready]")


def test_jobs_that_finish_behind_another_tab_are_told_in_few_notices_that_go(opened: Open) -> None:
    page = opened("#settings")
    page.clock.install(time=0)
    page.clock.pause_at(1000)  # nothing goes before it was looked at
    finish(page, Line(page), "#settings")
    page.get_by_text("13 videos are ready.").wait_for()
    page.get_by_text("2 videos could not be read.").wait_for()
    assert page.locator(".notice").count() == 2
    assert page.get_attribute("#notices", "aria-live") == "polite"
    page.locator(".notice").first.hover()
    page.clock.fast_forward(60_000)
    until(page, "document.querySelectorAll('.notice').length === 1")  # the other one is being read
    page.mouse.move(5, 5)
    page.clock.fast_forward(60_000)
    until(page, "document.querySelectorAll('.notice').length === 0")


def test_jobs_that_finish_in_view_of_the_list_need_no_notice(opened: Open) -> None:
    page = opened("#settings")
    finish(page, Line(page), "#video")
    until(page, "document.querySelectorAll('.job[data-kind^=done]').length === 13")
    until(page, "document.querySelectorAll('.job[data-kind^=failed]').length === 2")
    assert page.locator(".notice").count() == 0


def test_a_list_that_is_older_than_an_ending_does_not_undo_it(opened: Open) -> None:
    """The list was asked for while the job ran, and arrives after the event that the job is done."""
    page = opened("#settings")
    Line(page)
    running, done = job(1, "running"), job(1, "done")
    lists: list[Route] = []
    events: list[Route] = []
    page.route("**/v1/jobs", lambda route: lists.append(route))
    page.route("**/v1/jobs/*/events", lambda route: events.append(route))

    def wait_for(routes: list[Route], count: int) -> None:
        for _ in range(1200):
            if len(routes) >= count:
                return
            page.wait_for_timeout(50)
        raise AssertionError(f"never asked {count} times")

    address = page.url
    page.goto("about:blank")
    page.goto(address)
    wait_for(lists, 1)
    answer([running])(lists[0])
    wait_for(events, 1)
    page.locator("#tab-video").click()  # the list is asked for again
    wait_for(lists, 2)
    page.locator("#tab-settings").click()
    body = f"event: job\ndata: {json.dumps(done)}\n\n"
    events[0].fulfill(status=200, content_type="text/event-stream", body=body)
    page.get_by_text("film-1.mp4 is ready").wait_for()
    wait_for(lists, 3)
    answer([running])(lists[1])
    until(page, "document.querySelectorAll('.job').length === 1")
    answer([done])(lists[2])
    page.locator("#tab-video").click()
    wait_for(lists, 4)
    answer([done])(lists[3])
    page.locator(".job[data-kind^=done]").wait_for()
    assert len(events) == 1  # nobody follows it again
    assert page.locator(".notice").count() <= 1
    assert page.get_by_text("videos are ready").count() == 0


@pytest.mark.parametrize(
    ("kind", "frames", "is_offered"), [("gif", 2, True), ("gif", 1, False), ("png", 2, True), ("webp", 2, True)]
)
def test_a_picture_that_moves_is_offered_as_a_video(
    opened: Open, tmp_path: Path, kind: str, frames: int, is_offered: bool
) -> None:
    page = opened()
    line = Line(page)
    pictures = [Image.fromarray(np.full((60, 80, 3), shade, np.uint8)) for shade in (80, 160)][:frames]
    pictures[0].save(tmp_path / f"film-1.{kind}", save_all=True, append_images=pictures[1:], duration=100)
    read(page, tmp_path / f"film-1.{kind}")
    offer = page.get_by_role("button", name="Analyze it as a video")
    assert offer.count() == is_offered
    if is_offered:
        offer.click()
        line.let(page, "queued")
        page.get_by_text("number 1 in line").wait_for()
        assert page.get_attribute("#tab-video", "aria-selected") == "true"


def test_several_pictures_are_read_one_at_a_time_and_that_is_said(opened: Open, two_faces: Path, no_face: Path) -> None:
    page = opened("#settings", expected=("status of 4",))
    page.evaluate(DROP, ["body", [["a.png", "image/png"], ["b.png", "image/png"]]])
    page.get_by_text("this is a.png, the others are left aside").wait_for()
    assert page.get_attribute("#tab-picture", "aria-selected") == "true"


def test_errors_are_in_the_language_of_the_page(opened: Open, tmp_path: Path) -> None:
    """By their code; one that the page does not know is shown as the service says it."""
    page = opened("#video", locale="zh-CN", expected=("status of 413",))
    line = Line(page)
    crashed = {
        "name": "film", "problem": "its worker died, 2 times", "hint": "send it again", "code": "worker_crashed",
        "parameters": {"how": "died", "attempts": 2},
    }  # fmt: skip
    strange = {"name": "film", "problem": "is odd", "hint": "look at it", "code": "of-tomorrow", "parameters": {}}
    line.jobs = [job(1, "failed", error=crashed), job(2, "failed", error=strange)]
    page.reload()
    page.wait_for_selector("html[data-ready]")
    texts = page.locator(".job[data-kind^=failed] .text")
    until(page, "document.querySelectorAll('.job').length === 2")
    assert sorted(texts.all_inner_texts()) == [
        "失败: is odd；look at it", "失败: 识别进程意外结束 2 次；视频可能已损坏或过大；请转换为普通的 .mp4 后重新发送",
    ]  # fmt: skip
    error = {"name": "x.png", "problem": "too large", "hint": "cut", "code": "too_large", "parameters": {"limit": 1234}}
    page.route("**/v1/images?*", answer({"error": error}, 413))
    page.locator("#tab-picture").click()
    page.evaluate(DROP, ["body", [["x.png", "image/png"]]])
    page.locator(".failed").wait_for()
    assert page.locator(".failed p").all_inner_texts() == ["x.png: 超过上限 1,234 字节", "请发送较小的文件"]


def test_every_documented_error_has_chinese_words(opened: Open) -> None:
    page = opened()
    words = page.evaluate("async () => (await import('./page/errors.zh.js')).CHINESE_ERRORS")
    section = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8").partition("\n## Errors\n")[2]
    rows = [line for line in section.splitlines() if re.match(r"\| (`[a-z_]+`(, )?)+ \|", line)]
    codes = {code for line in rows for code in re.findall(r"`([a-z_]+)`", line.split("|")[1])}
    assert codes <= words.keys()
    assert all(found and hint for found, hint in words.values())
