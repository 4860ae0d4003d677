"""The page in Chromium, before a real service: pictures, videos, the camera, from the first drop to the last file.

The fixture ``opened`` ends every test with two checks: no error in the console, no request to another host.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mien import Recognizer
from mien.analysis.output.palette import COLORS
from tests.service.page.steps import Open, download, open_job, read, second, send, until

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.slow


def test_a_picture_with_two_faces(opened: Open, two_faces: Path) -> None:
    page = opened()
    read(page, two_faces)
    expected = Recognizer("base", detector="haar").analyze(two_faces)
    chips = page.locator(".chip")
    assert chips.count() == len(expected) == 2
    for number, face in enumerate(expected):
        chips.nth(number).click()
        assert chips.nth(number).get_attribute("aria-pressed") == "true"
        shown = dict(
            zip(
                page.locator(".face .name").all_inner_texts(),
                page.locator(".face .value").all_inner_texts(),
                strict=True,
            )
        )
        assert shown == {
            name.capitalize(): f"{round(100 * float(p))}%"
            for name, p in zip(face.labels, face.probabilities, strict=True)
        }
        assert page.locator(".answer").inner_text().split() == [
            face.label.capitalize(),
            f"{round(100 * face.confidence)}%",
        ]
    crop = page.locator(".crops img").first
    assert crop.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [48, 48]


def test_boxes_lie_where_the_faces_are_and_a_click_chooses(opened: Open, two_faces: Path) -> None:
    page = opened()
    read(page, two_faces)
    faces = Recognizer("base", detector="haar").analyze(two_faces)
    canvas = page.locator("#picture-stage canvas")
    area = canvas.bounding_box()
    scale = area["width"] / 1024
    color = "canvas => (x, y) => [...canvas.getContext('2d').getImageData(Math.round(x), Math.round(y), 1, 1).data]"
    for number in (1, 0):
        x1, y1, x2, y2 = (value * scale for value in faces[number].box_xyxy)
        page.mouse.click(area["x"] + (x1 + x2) / 2, area["y"] + (y1 + y2) / 2)
        assert page.locator(".chip").nth(number).get_attribute("aria-pressed") == "true"
        points = {"left": (x1, (y1 + y2) / 2), "right": (x2, (y1 + y2) / 2), "below": ((x1 + x2) / 2, y2)}
        for where, (x, y) in points.items():
            red, green, blue, alpha = canvas.evaluate(f"(canvas, [x, y]) => ({color})(canvas)(x, y)", [x, y])
            assert alpha > 200 and (red, green, blue) == (0xE6, 0xB8, 0x00), where  # the color of "happy"
        middle = canvas.evaluate(f"(canvas, [x, y]) => ({color})(canvas)(x, y)", [(x1 + x2) / 2, (y1 + y2) / 2])
        assert middle[3] == 0


def test_the_files_of_a_picture_are_those_of_analyze(
    opened: Open, two_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    from mien.cli.main import main

    page = opened()
    read(page, two_faces)
    assert main(["analyze", str(two_faces), "--out", "here", "--detector", "haar", "--quiet"]) == 0
    expected = (Path("here") / f"{two_faces.stem}.records.csv").read_text(encoding="utf-8")
    name, content = download(page, page.get_by_role("button", name="CSV"))
    assert name == f"{two_faces.stem}.records.csv"
    rows, ours = (list(csv.DictReader(io.StringIO(text))) for text in (expected, content.decode()))
    assert list(rows[0]) == list(ours[0])
    for row, mine in zip(rows, ours, strict=True):
        assert mine["source"] == two_faces.name  # with its comma
        for column in set(row) - {"source"}:
            if re.fullmatch(r"-?[\d.]+(e-?\d+)?", row[column]):
                assert float(mine[column]) == pytest.approx(float(row[column]), abs=2e-3), column
            else:
                assert mine[column] == row[column], column
    name, content = download(page, page.get_by_role("button", name="JSON"))
    assert name.endswith(".records.json")
    assert [(row["label"], row["x1"]) for row in json.loads(content)] == [
        (row["label"], float(row["x1"])) for row in ours
    ]
    name, content = download(page, page.get_by_role("button", name="Annotated picture"))
    annotated = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.int16)
    original = np.asarray(Image.open(two_faces).convert("RGB"), np.int16)
    assert annotated.shape == original.shape
    x1, y1, _, _ = (round(float(ours[0][side])) for side in ("x1", "y1", "x2", "y2"))
    drawn = annotated[y1 + 40, x1]  # on the box's left line, in the page's color of the expression
    distances = {name: np.abs(np.array([*bytes.fromhex(color[1:])]) - drawn).sum() for name, color in COLORS.items()}
    assert min(distances, key=distances.get) == ours[0]["label"]


def test_the_map_of_a_face_is_shown_on_request(opened: Open, two_faces: Path) -> None:
    pytest.importorskip("torch")
    page = opened()
    read(page, two_faces)
    assert page.locator(".crops figure:visible").count() == 1
    page.get_by_role("button", name="Show where it looked").click()
    figure = page.locator(".crops figure:visible").nth(1)
    figure.wait_for()
    image = figure.locator("img")
    until(page, "document.querySelectorAll('.crops img')[1].naturalWidth > 0")
    assert image.get_attribute("alt") == "The same face, colored by how much each part mattered"


def test_a_picture_without_a_face_is_shown_and_said_so(opened: Open, no_face: Path) -> None:
    page = opened()
    read(page, no_face)
    assert page.get_by_role("heading", name="No face found").is_visible()
    assert "No face found · 400 × 300" in page.inner_text("#picture-status")
    assert page.locator("#picture-stage img").is_visible()
    assert page.locator("#picture-stage img").evaluate("image => image.naturalWidth") == 400
    assert page.locator("#picture-side .downloads").count() == 0


def test_a_broken_file_is_refused_with_a_reason_and_the_next_picture_is_read(
    opened: Open, two_faces: Path, tmp_path: Path
) -> None:
    page = opened(expected=("status of 4",))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(two_faces.read_bytes()[:700])
    read(page, broken)
    said = page.get_by_role("alert").first.inner_text()
    assert "This could not be read" in said and "broken.jpg" in said
    assert not page.locator("#picture-stage").is_visible()
    read(page, two_faces)
    page.wait_for_selector(".chip")
    assert page.locator("#picture-stage").is_visible()


def test_dropping_and_pasting(opened: Open, two_faces: Path) -> None:
    page = opened()
    give = """([kind, text]) => {
      const file = new File([Uint8Array.from(atob(text), (each) => each.charCodeAt(0))], "given.png", { type: "image/png" });
      const data = new DataTransfer();
      data.items.add(file);
      const target = document.querySelector("#picture-drop");
      if (kind === "paste") return document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
      for (const name of ["dragover", "drop"]) target.dispatchEvent(new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    content = base64.b64encode(two_faces.read_bytes()).decode()
    page.evaluate(give, ["drop", content])
    page.wait_for_selector(".chip")
    assert page.inner_text("#picture-name") == "given.png"
    page.reload()
    page.wait_for_selector("html[data-ready]")
    page.evaluate(give, ["paste", content])
    page.wait_for_selector(".chip")


def test_labels_never_cover_one_another_and_stay_inside(opened: Open) -> None:
    page = opened()
    bounds = {"width": 640, "height": 400}
    rng = np.random.default_rng(0)
    for count in (2, 3, 8, 40, 150):
        corners = rng.uniform((-20, -20), (620, 380), (count, 2))
        sides = rng.uniform(10, 160, (count, 1))
        boxes = np.hstack([corners, corners + sides]).tolist()
        sizes = [[{"width": width, "height": 22} for width in (120, 90, 50)] for _ in boxes]
        code = "async ([boxes, sizes, bounds]) => (await import('/page/overlay.js')).placeLabels(boxes, sizes, bounds)"
        places = page.evaluate(code, [boxes, sizes, bounds])
        assert len(places) == count
        shown = [place for place in places if place]
        if count <= 8:
            assert len(shown) == count
        for index, one in enumerate(shown):
            assert 0 <= one["x"] and one["x"] + one["width"] <= bounds["width"]
            assert 0 <= one["y"] and one["y"] + one["height"] <= bounds["height"]
            for other in shown[:index]:
                apart = max(
                    one["x"] - other["x"] - other["width"], other["x"] - one["x"] - one["width"],
                    one["y"] - other["y"] - other["height"], other["y"] - one["y"] - one["height"],
                )  # fmt: skip
                assert apart >= -1e-9


def test_a_video_from_upload_to_its_files(opened: Open, clip: Path, tmp_path: Path) -> None:
    """Upload, progress, playing with boxes, seeking by timeline and moment, files, removal."""
    import av

    page = opened("#video")
    send(page, clip)
    page.wait_for_selector(".job progress:visible")
    open_job(page, "clip.mp4")
    assert page.evaluate("document.querySelector('#cinema video').currentSrc").endswith("/source")
    page.wait_for_selector(".timeline .main-svg")

    page.get_by_role("button", name="Play").click()
    until(page, "document.querySelector('#cinema video').currentTime > 0.3")
    page.get_by_role("button", name="Pause").click()
    until(page, "document.querySelector('#cinema video').paused")

    chart = page.locator(".timeline .chart").bounding_box()
    page.mouse.click(chart["x"] + 16 + 0.75 * (chart["width"] - 32), chart["y"] + chart["height"] / 2)
    until(page, "!document.querySelector('#cinema video').seeking")
    assert second(page) == pytest.approx(3.0, abs=0.05)
    until(page, "Math.abs(Number(document.querySelector('.timeline').ariaValueNow) - 3) < 0.1")
    pointer = page.locator(".timeline .pointer").bounding_box()
    assert pointer["x"] + pointer["width"] / 2 == pytest.approx(chart["x"] + 16 + 0.75 * (chart["width"] - 32), abs=3)
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
    assert page.locator("#cinema canvas").evaluate(drawn)
    page.get_by_role("button", name="Boxes and labels").click()
    assert not page.locator("#cinema canvas").evaluate(drawn)

    page.locator(".timeline").focus()
    page.keyboard.press("Home")
    until(page, "document.querySelector('#cinema video').currentTime === 0")
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('#cinema video').currentTime === 1")

    moment = page.locator(".moment").first
    at, share = moment.locator("span").inner_text(), moment.locator("small").inner_text()
    moment.click()
    until(page, "!document.querySelector('#cinema video').seeking")
    assert second(page) == pytest.approx(float(at.split(":")[1]), abs=0.11)
    shown = page.locator("#player .bars .most .value").inner_text()
    assert int(shown.rstrip("%")) == pytest.approx(int(share.rstrip("%")), abs=1)  # both are rounded, each by itself

    name, content = download(page, page.get_by_role("link", name="Annotated video"))
    assert name == "clip.annotated.mp4"
    (tmp_path / name).write_bytes(content)
    with av.open(str(tmp_path / name)) as video:
        assert len(video.streams.audio) == 1
        assert sum(1 for _ in video.decode(video=0)) == 60
    _, content = download(page, page.get_by_role("link", name="CSV"))
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    best = max(float(row[f"s_{row['s_label']}"]) for row in rows)
    assert share == f"{round(100 * best)}%"  # the first moment is the strongest one there is

    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove").click()
    page.wait_for_selector("#video-list:visible")
    assert page.locator(".job", has_text="clip.mp4").count() == 0


def test_boxes_follow_the_records(opened: Open, read_clip: str) -> None:
    """What lies over a playing video is what the records say of that frame, and between two frames lies between theirs."""
    page = opened("#video")
    open_job(page, read_clip)
    job = page.url.rsplit("/", 1)[1]
    address = page.url.split("#")[0]
    rows = list(csv.DictReader(io.StringIO(page.request.get(f"{address}v1/jobs/{job}/results/records.csv").text())))
    data = page.request.get(f"{address}v1/jobs/{job}/frames?fps=30").json()
    code = "async ([data, second]) => (await import('/page/frames.js')).getFacesAt(data, second)"
    sides = ("x1", "y1", "x2", "y2")
    for row, after in ((rows[0], rows[1]), (rows[20], rows[21]), (rows[-2], rows[-1])):
        (face,) = page.evaluate(code, [data, float(row["time_s"])])
        assert face["box"] == pytest.approx([float(row[side]) for side in sides], abs=0.2)
        assert (face["label"], face["track"]) == (row["s_label"], int(row["track"]))
        (between,) = page.evaluate(code, [data, (float(row["time_s"]) + float(after["time_s"])) / 2])
        middle = [(float(row[side]) + float(after[side])) / 2 for side in sides]
        assert between["box"] == pytest.approx(middle, abs=0.2)


def test_a_video_that_the_browser_cannot_play_is_shown_annotated(opened: Open, tmp_path: Path) -> None:
    from clips import make_clip

    old = tmp_path / "old.avi"
    make_clip(old, seconds=1, size_wh=(320, 240), codec="mpeg4", sound=None)
    page = opened("#video")
    send(page, old)
    open_job(page, "old.avi")
    assert page.evaluate("document.querySelector('#cinema video').currentSrc").endswith("/annotated.mp4")
    page.wait_for_selector(".moment canvas.drawn")
    page.get_by_role("button", name="Play").click()
    until(page, "document.querySelector('#cinema video').currentTime > 0.3")


def test_what_was_odd_about_a_video_is_said(opened: Open, tmp_path: Path) -> None:
    from clips import make_clip

    whole, part = tmp_path / "whole.mkv", tmp_path / "part.mkv"
    make_clip(whole, seconds=2, size_wh=(320, 240), sound=None)
    part.write_bytes(whole.read_bytes()[: int(0.6 * whole.stat().st_size)])
    page = opened("#video")
    send(page, part)
    row = page.locator(".job[data-kind^=done]", has_text="part.mkv")
    row.wait_for(timeout=60_000)
    assert "what was read is kept" in row.locator(".text").inner_text()


def test_a_job_goes_on_through_a_reload_and_tells_when_it_is_done(opened: Open, long_clip: Path) -> None:
    page = opened("#video")
    send(page, long_clip)
    page.wait_for_selector(".job[data-kind^=running]")
    page.reload()
    row = page.locator(".job[data-kind^=running]", has_text="long.mp4")
    row.wait_for()
    row.locator(".text").filter(has_text=re.compile(r"Reading · \d+% · \d+ s left")).wait_for()
    assert 0 < row.locator("progress").evaluate("bar => bar.value") < 1
    page.get_by_role("tab", name="Settings").click()  # the notice finds the person wherever they are
    page.get_by_text("long.mp4 is ready.").wait_for(timeout=180_000)
    page.locator(".notice").get_by_role("button", name="Open").click()
    page.wait_for_selector("#cinema video")
    assert "#video/" in page.url
    page.reload()  # the address names the video
    page.wait_for_selector("#cinema video")


def test_a_video_that_is_sent_while_the_list_is_on_its_way_stays_in_it(
    opened: Open, clip: Path, tmp_path: Path
) -> None:
    page, held = opened("#video"), []
    page.route("**/v1/jobs", lambda route: held.append((route, route.fetch())))
    page.get_by_role("tab", name="Settings").click()
    page.locator("#tab-video").click()  # asks for the list
    page.wait_for_timeout(500)
    page.set_input_files("#video-file", Path(shutil.copy(clip, tmp_path / "between.mp4")))
    row = page.locator(".job", has_text="between.mp4").get_by_role("button")
    row.first.wait_for()
    route, answer = held[0]  # of before it was sent
    route.fulfill(response=answer)
    page.wait_for_timeout(500)
    assert row.first.is_visible()


def test_a_job_is_cancelled(opened: Open, long_clip: Path, tmp_path: Path) -> None:
    page = opened("#video")
    send(page, Path(shutil.copy(long_clip, tmp_path / "stop.mp4")))
    page.locator(".job[data-kind^=running]", has_text="stop.mp4").wait_for()
    page.get_by_role("button", name="Cancel stop.mp4").click()
    row = page.locator(".job[data-kind^=cancelled]", has_text="stop.mp4")
    row.wait_for()
    assert row.locator(".text").inner_text().startswith("Canceled")
    page.once("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Remove stop.mp4").click()
    row.wait_for(state="detached")


def test_a_file_that_is_no_video_fails_with_a_reason(opened: Open, two_faces: Path, tmp_path: Path) -> None:
    page = opened("#video", expected=("status of 4",))
    page.set_input_files("#video-file", Path(shutil.copy(two_faces, tmp_path / "picture.mp4")))
    failed = page.locator(".job[data-kind^=failed]", has_text="is a picture, not a video")
    failed.wait_for()
    assert failed.count() == page.locator(".job[data-kind^=failed]", has_text="picture.mp4").count() == 1


def test_a_picture_that_is_chosen_as_a_video_is_read_as_a_picture(opened: Open, two_faces: Path) -> None:
    page = opened("#video")
    page.set_input_files("#video-file", two_faces)
    page.wait_for_selector("#picture-side .card")
    assert page.get_by_role("tab", name="Picture").get_attribute("aria-selected") == "true"


def test_the_camera_reads_and_records(opened: Open) -> None:
    page = opened("#camera")
    page.get_by_role("button", name="Turn the camera on").click()
    until(page, "document.querySelector('#camera-bars .most .value')?.textContent.endsWith('%')")
    until(page, "Number(document.querySelector('#camera-rate').dataset.fps) > 0")
    assert page.locator("#camera-who").inner_text().startswith("Happy")
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
    assert page.locator("#camera-work canvas").evaluate(drawn)
    page.get_by_role("button", name="Record").click()
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Stop recording").click()
    page.wait_for_selector("#camera-records:visible")
    _, content = download(page, page.locator("#camera-records").get_by_role("button", name="JSON"))
    rows: list[dict[str, Any]] = json.loads(content)
    times = [row["time_s"] for row in rows]
    assert times[0] < 1  # of the recording, not of the camera
    assert len(rows) >= 2 and times == sorted(times) and times[-1] - times[0] < 10
    assert {row["source"] for row in rows} == {"camera"}
    smiling = [row for row in rows if row["s_label"] == "happy"]
    assert len(smiling) > 0.8 * len(rows)  # Haar may find a face in the rocket behind her for a moment
    assert f"{len(rows)} rows" in page.locator("#camera-records").inner_text()
    page.get_by_role("tab", name="Picture").click()  # nobody is filmed behind another tab
    assert page.evaluate("document.querySelector('#camera-work video').srcObject") is None
    page.get_by_role("tab", name="Camera").click()
    page.wait_for_selector("#camera-records:visible")


def test_a_camera_that_is_allowed_behind_another_tab_stays_off(opened: Open) -> None:
    page = opened("#camera")
    page.evaluate(
        "const media = navigator.mediaDevices, ask = media.getUserMedia.bind(media);"
        "media.getUserMedia = (options) => new Promise((allow) => (window.allow = async () => allow(window.given = await ask(options)))); 0"
    )
    page.get_by_role("button", name="Turn the camera on").click()
    page.click("#tab-picture")
    page.evaluate("window.allow()")
    until(page, "window.given?.getTracks().every((track) => track.readyState === 'ended')")
    page.click("#tab-camera")
    assert page.locator("#camera-start").is_visible() and not page.locator("#camera-work").is_visible()


def test_a_second_picture_takes_the_place_of_one_that_is_still_being_read(opened: Open, two_faces: Path) -> None:
    page = opened()
    page.evaluate(
        "window.decode = HTMLImageElement.prototype.decode;"
        "HTMLImageElement.prototype.decode = async function () {"
        " await window.decode.call(this); await new Promise((go) => setTimeout(go, 300)); }; 0"
    )
    read_first = page.locator("#picture-side .card")
    page.set_input_files("#picture-file", two_faces)
    until(page, "document.querySelector('#picture-work img')?.src && !document.querySelector('.busy')")
    page.set_input_files("#picture-file", two_faces)
    read_first.first.wait_for()
    page.wait_for_timeout(500)
    assert not page.locator("#picture-work.broken").count() and page.locator("#picture-side .failed").count() == 0
