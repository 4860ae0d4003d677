"""The player in Chromium: boxes and stills belong to the frame that is shown, whatever clock the file has.

The fixture ``opened`` ends every test with two checks: no error in the console, no request to another host.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.service.page import films
from tests.service.page.films import FPS, Face, frames_answer, serve_film, write_film
from tests.service.page.steps import Open, open_job, second, send, until

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.slow

SLIDE = "(slider, at) => { slider.value = at; slider.dispatchEvent(new Event('input', { bubbles: true })); }"

#: Where the marker is in the frame shown, and the box above it: [x, x] in the video's pixels, as they are seen.
PLACES = """(() => {
  const video = document.querySelector("#cinema video"), over = document.querySelector("#cinema canvas");
  const shot = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  const pen = shot.getContext("2d");
  pen.drawImage(video, 0, 0);
  const middle = (columns) => columns.reduce((sum, x) => sum + x, 0) / columns.length;
  const row = (context, width, y, there) => {
    const { data } = context.getImageData(0, y, width, 1);
    return Array.from({ length: width }, (_, x) => x).filter((x) => there(...data.slice(4 * x, 4 * x + 4)));
  };
  const marker = row(pen, shot.width, 286, (red, green, blue) => red > 180 && green < 90 && blue > 180);
  const lines = row(over.getContext("2d"), over.width, Math.round(over.height * 150 / 360), (r, g, b, alpha) => alpha > 150);
  return [middle(marker), (lines[0] + lines.at(-1)) / 2 * (shot.width / over.width)];
})()"""


@pytest.mark.parametrize(("name", "start_s"), [("mp4", 1.0), ("webm", 1.0), ("mkv", 1.0)])
def test_boxes_lie_on_the_faces_whatever_time_a_file_begins_at(
    opened: Open, tmp_path: Path, name: str, start_s: float
) -> None:
    film = write_film(tmp_path / f"from-{start_s}.{name}", films.moving_face(3), start_s)
    page = opened("#video")
    send(page, film)
    open_job(page, film.name)
    slider = page.get_by_role("slider", name="Place in the video")
    until(page, "document.querySelector('.transport .time').textContent === '0:00 / 0:03'")
    for at in (0.0, 2.5, 1.2, 2.9, 0.45):
        slider.evaluate(SLIDE, at)
        shown = films.marker_x(at)
        until(page, f"Math.abs(({PLACES})[0] - {shown}) < 3 && !document.querySelector('#cinema video').seeking")
        until(page, f"(([marker, box]) => Math.abs(marker - box) < 9)({PLACES})")  # a frame is 12 px
        until(page, f"Math.abs(Number(document.querySelector('.timeline').ariaValueNow) - {at}) < 0.1")
    page.get_by_role("button", name="Play").click()
    until(page, "document.querySelector('#cinema video').ended")
    until(
        page,
        f"(([marker, box]) => Math.abs(marker - {films.marker_x(2.9)}) < 3 && Math.abs(marker - box) < 9)({PLACES})",
    )
    marker, box = page.evaluate(PLACES)
    assert abs(marker - box) < 9


LABELS = ["angry", "happy", "sad", "surprise"]

#: Who peaks with which expression, at which frame, how strongly: in the order in which the service tells them.
PEAKS = [
    (0, "angry", 3, 0.93), (1, "angry", 26, 0.66), (0, "angry", 40, 0.85), (1, "angry", 59, 0.96), (0, "angry", 19, 0.5),
    (1, "happy", 8, 0.99), (0, "happy", 22, 0.97), (1, "happy", 44, 0.74), (0, "happy", 57, 0.81),
    (0, "sad", 13, 0.71), (1, "sad", 35, 0.91), (0, "sad", 48, 0.98),
    (1, "surprise", 17, 0.88), (0, "surprise", 31, 0.95), (1, "surprise", 53, 0.69),
]  # fmt: skip


def open_film(
    page: Page, film: Path, frames: list[list[Face]], start_s: float = 0.0, peaks: Any = (), **others: Any
) -> None:
    """Open a video that was never read, as if these faces had been found in it."""
    serve_film(page, film, frames_answer(frames, LABELS, start_s, **others), peaks)
    page.evaluate(f"location.hash = 'video/{films.JOB}'")
    page.wait_for_selector("#cinema video")
    until(page, "document.querySelector('#cinema video').readyState >= 2")


def peaked() -> list[list[Face]]:
    """Two faces that are a little sad throughout, but for their peaks."""
    found = [[Face(track, 2, 0.46) for track in range(2)] for _ in range(60)]
    for track, label, frame, probability in PEAKS:
        found[frame][track] = Face(track, LABELS.index(label), probability)
    return found


@pytest.mark.parametrize(("name", "start_s"), [("mp4", 1.0), ("webm", 0.4), ("mkv", 0.008), ("mp4", 0.0)])
def test_each_still_is_the_frame_and_the_face_of_its_caption(
    opened: Open, tmp_path: Path, name: str, start_s: float
) -> None:
    film = write_film(tmp_path / f"coded.{name}", films.coded_frames(60), start_s)
    page = opened()
    unsure = films.peak(1, "surprise", 30, 0.42, unsure=True)
    open_film(page, film, peaked(), start_s, [*(films.peak(*each) for each in PEAKS), unsure])
    moments = page.locator(".moment")
    moments.first.wait_for()
    until(page, "[...document.querySelectorAll('.moment canvas')].every(canvas => canvas.matches('.drawn'))")
    shown = set()
    for at in range(moments.count()):
        words = moments.nth(at).get_attribute("aria-label") or ""
        label, share, person, minutes, seconds = re.fullmatch(
            r"(\w+) (\d+)%, person (\d), at (\d+):([\d.]+)", words
        ).groups()
        frame = round((60 * int(minutes) + float(seconds)) * FPS)
        group = moments.nth(at).evaluate("moment => moment.closest('li').querySelector('h3').textContent")
        assert (group, moments.nth(at).locator("small").inner_text()) == (label, f"{share}%")
        assert moments.nth(at).locator("canvas").evaluate(films.DECODE) == [frame, int(person)], words
        shown.add((int(person) - 1, label.lower(), frame, int(share) / 100))
    assert shown == {each for each in PEAKS if each[3] > 0.5}  # four of an expression at most, the highest


def test_a_moment_leads_to_its_frame(opened: Open, tmp_path: Path) -> None:
    film = write_film(tmp_path / "coded.mp4", films.coded_frames(60), 1.0)
    page = opened()
    open_film(page, film, peaked(), 1.0, [films.peak(*each) for each in PEAKS])
    until(page, "document.querySelector('.transport .time').textContent === '0:00 / 0:06'")
    page.get_by_role(
        "button", name="Happy 81%"
    ).click()  # in the last second, which lies behind what an mp4 says of itself
    until(page, "document.querySelector('.transport .time').textContent === '0:05 / 0:06'")
    until(page, "document.querySelector('#player .bars .most').innerText.split(/\\s+/).join() === 'Happy,81%'")
    assert second(page) == pytest.approx(1.0 + 5.7, abs=0.01)


def test_a_seek_before_the_first_frame_leads_to_the_right_one(opened: Open, tmp_path: Path) -> None:
    """Which clock the browser has is only seen by the first frame, from which this file counts on from 1 s."""
    film = write_film(tmp_path / "coded.mp4", films.coded_frames(60), 1.0)
    page = opened()
    serve_film(page, film, frames_answer(peaked(), LABELS, 1.0))
    held: list[Route] = []
    page.route("**/results/source", lambda route: held.append(route) if len(held) < 1 else route.fallback())
    page.evaluate(f"location.hash = 'video/{films.JOB}'")
    slider = page.get_by_role("slider", name="Place in the video")
    slider.evaluate("(slider) => { slider.max = 6; }")
    slider.evaluate(SLIDE, 2.5)
    for _ in range(1200):
        if held:
            break
        page.wait_for_timeout(50)
    held[0].fallback()
    until(page, "document.querySelector('.transport .time').textContent === '0:02 / 0:06'")
    assert second(page) == pytest.approx(1.0 + 2.5, abs=0.01)


def test_who_is_not_in_view_has_no_bars(opened: Open, tmp_path: Path) -> None:
    """Person 1 leaves after two seconds, person 2 comes after one and leaves after four."""
    film = write_film(tmp_path / "coded.mp4", films.coded_frames(60))
    page = opened()
    faces = [[Face(0, 1, 0.9)] * (number < 20) + [Face(1, 0, 0.8)] * (10 <= number < 40) for number in range(60)]
    open_film(page, film, faces)
    page.locator(".person", has_text="Person 1").click()
    slider = page.get_by_role("slider", name="Place in the video")
    for at, title, note, happy in (
        (0.5, "Person 1, now", "", "90%"), (3.05, "Person 1 is not in view", "In view: person 2", "–"),
        (5.05, "Person 1 is not in view", "Nobody is in view.", "–"), (1.5, "Person 1, now", "", "90%"),
    ):  # fmt: skip
        slider.evaluate(SLIDE, at)
        until(page, f"document.querySelector('#live-title').textContent === '{title}'")
        until(page, f"document.querySelector('#live-note').textContent === '{note}'")
        assert page.locator("#player .bars li", has_text="Happy").locator(".value").inner_text() == happy
        here = [
            bool(number in note or (number == "1" and not note) or (number == "2" and at == 1.5)) for number in "12"
        ]
        found = page.locator(".person").evaluate_all(
            "rows => rows.map(row => [row.dataset.track, row.matches('.here')])"
        )
        assert dict(found) == {"0": here[0], "1": here[1]}


def test_doubt_is_shown_wherever_an_expression_is(opened: Open, tmp_path: Path) -> None:
    """Person 1 is sad without being sure of it in every frame, person 2 is happy for sure; the third is no face."""
    film = write_film(tmp_path / "coded.mp4", films.coded_frames(20))
    page = opened()
    faces = [[Face(0, 2, 0.4), Face(1, 1, 0.95)] for _ in range(20)]
    people = frames_answer(faces, LABELS)["people"]
    open_film(page, film, faces, people=people, not_faces=[people[0] | {"track": 7, "person": 8}])
    rows = page.locator(".person")
    assert (
        rows.filter(has_text="Person 1").inner_text().split("\n")[-1]
        == "mostly unsure · Sad? 100% · sure 0% of the time"
    )
    assert rows.filter(has_text="Person 2").inner_text().split("\n")[-1] == "Happy 100%"
    assert page.locator(".people .note").all_inner_texts() == [
        "“?” and pale colors: an expression leads, but not clearly (sure from 45%).",
        "One track that is probably not a face is left out.",
    ]
    rows.filter(has_text="Person 1").click()
    assert page.locator("#live-note").inner_text() == (
        "Sad leads, but not clearly (40%; sure from 45%). The “?” stands for that."
    )
    page.wait_for_selector(".timeline .main-svg")
    until(page, "document.querySelector('.timeline').textContent.includes('Person 1 (mostly unsure)')")
    assert page.locator(".moment").count() == 0
    traces = page.evaluate(
        "document.querySelector('.timeline .chart').data.map(({ fill, y }) => fill === 'tozeroy' && y)"
    )
    pale = [
        values[1:-1] for values in traces if values
    ]  # the last trace of each row; before and after it nobody is seen
    assert [set(values) for values in pale] == [{1}, {0}]


def test_what_is_no_face_is_drawn_gray_and_called_so(opened: Open) -> None:
    page = opened()
    data = frames_answer([[Face(0, 2, 0.9), Face(1, 1, 0.95)]], LABELS)
    data["not_faces"] = [data["people"].pop(0)]
    code = """async (data) => {
      const [{ getFacesAt }, { getFaceName }, { getBoxColor }] =
        await Promise.all(["frames", "words", "store"].map(name => import(`./page/${name}.js`)));
      return getFacesAt(data, 0).map(face => [getFaceName(face), getBoxColor(face)]);
    }"""
    assert page.evaluate(code, data) == [["Not a face?", "#969696"], ["Happy", "#e6b800"]]


def test_what_the_films_of_these_tests_show() -> None:
    """The coded frames and the marker themselves."""
    frames = list(films.coded_frames(60))
    assert len({frame.tobytes() for frame in frames}) == 60
    xs = [np.flatnonzero((frame[286] == films.MARKER_RGB).all(-1)).mean() for frame in films.moving_face(2)]
    assert np.abs(xs - films.marker_x(np.arange(20) / FPS)).max() <= 1
