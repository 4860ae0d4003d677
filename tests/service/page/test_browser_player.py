"""The player in Chromium: boxes and stills belong to the frame that is shown, whatever clock the file has.

The fixture ``opened`` ends every test with two checks: no error in the console, no request to another host.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.service.page import films
from tests.service.page.films import FPS, Face, frames_answer, serve_film, write_film
from tests.service.page.steps import Open, open_job, second, send, until

pytestmark = pytest.mark.slow

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
        slider.evaluate(
            "(slider, at) => { slider.value = at; slider.dispatchEvent(new Event('input', { bubbles: true })); }", at
        )
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


#: Who peaks with which expression, at which frame, how strongly: [track, label, frame, probability].
PEAKS = [
    (0, 0, 3, 0.93), (1, 1, 8, 0.99), (0, 2, 13, 0.71), (1, 3, 17, 0.88), (0, 1, 22, 0.97), (1, 0, 26, 0.66),
    (0, 3, 31, 0.95), (1, 2, 35, 0.91), (0, 0, 40, 0.85), (1, 1, 44, 0.74), (0, 2, 48, 0.98), (1, 3, 53, 0.69),
    (0, 1, 57, 0.81), (1, 0, 59, 0.96),
]  # fmt: skip
LABELS = ["angry", "happy", "sad", "surprise"]


def peaked(frames: int) -> list[list[Face]]:
    """Two faces that are a little sad throughout, but for their peaks."""
    found = [[Face(track, 2, 0.46) for track in range(2)] for _ in range(frames)]
    for track, label, frame, probability in PEAKS:
        found[frame][track] = Face(track, label, probability)
    return found


@pytest.mark.parametrize(("name", "start_s"), [("mp4", 1.0), ("webm", 0.4), ("mkv", 0.008), ("mp4", 0.0)])
def test_each_still_is_the_frame_and_the_face_of_its_caption(
    opened: Open, tmp_path: Path, name: str, start_s: float
) -> None:
    film = write_film(tmp_path / f"coded.{name}", films.coded_frames(60), start_s)
    page = opened()
    serve_film(page, film, frames_answer(peaked(60), LABELS, start_s))
    page.evaluate(f"location.hash = 'video/{films.JOB}'")
    moments = page.locator(".moment")
    moments.first.wait_for()
    until(page, "[...document.querySelectorAll('.moment canvas')].every(canvas => canvas.matches('.drawn'))")
    shown = {}
    for at in range(moments.count()):
        words = moments.nth(at).get_attribute("aria-label") or ""
        label, share, person, minutes, seconds = re.fullmatch(
            r"(\w+) (\d+)%, person (\d), at (\d+):([\d.]+)", words
        ).groups()
        frame = round((60 * int(minutes) + float(seconds)) * FPS)
        shown[int(person) - 1, LABELS.index(label.lower()), frame] = int(share) / 100
        assert moments.nth(at).locator("canvas").evaluate(films.DECODE) == [frame, int(person)], words
    strong = {(track, label, frame): share for track, label, frame, share in PEAKS}
    assert strong.items() <= shown.items()


def test_a_moment_leads_to_its_frame(opened: Open, tmp_path: Path) -> None:
    film = write_film(tmp_path / "coded.mp4", films.coded_frames(60), 1.0)
    page = opened()
    serve_film(page, film, frames_answer(peaked(60), LABELS, 1.0))
    page.evaluate(f"location.hash = 'video/{films.JOB}'")
    page.get_by_role(
        "button", name="Happy 81%"
    ).click()  # in the last second, which lies behind what an mp4 says of itself
    until(page, "!document.querySelector('#cinema video').seeking")
    until(page, "document.querySelector('#cinema video').currentTime > 6.69")
    assert second(page) == pytest.approx(1.0 + 5.7, abs=0.01)
    assert page.locator("#player .bars .most").inner_text().split() == ["Happy", "81%"]
    assert page.locator(".transport .time").inner_text() == "0:05 / 0:06"


def test_what_the_films_of_these_tests_show() -> None:
    """The coded frames and the marker themselves."""
    frames = list(films.coded_frames(60))
    assert len({frame.tobytes() for frame in frames}) == 60
    xs = [np.flatnonzero((frame[286] == films.MARKER_RGB).all(-1)).mean() for frame in films.moving_face(2)]
    assert np.abs(xs - films.marker_x(np.arange(20) / FPS)).max() <= 1
