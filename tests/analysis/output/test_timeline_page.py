"""The timeline as a page: what is in it, and what it does in a browser."""

from __future__ import annotations

import json
import re
import shutil
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip

from mien.analysis.output.timeline_page import FIRST_PERSONS, MAX_PERSONS, write_timeline_page
from mien.analysis.people.people import Observation, PeopleAccumulator
from mien.core.errors import MissingExtra
from mien.core.labels import FER2013

pytest.importorskip("jinja2")
pytest.importorskip("plotly")


def film(
    people: int = 2, seconds: float = 20, fps: int = 10, start_s: float = 0, labels: tuple[str, ...] = FER2013
) -> PeopleAccumulator:
    """Person 1 is happy, sad from half time on; the others come one after the other, surprised, a second each, and unsure;
    one cut."""
    film = PeopleAccumulator(labels)
    for index in range(round(seconds * fps)):
        time_s = index / fps
        if index == round(seconds * fps) // 2:
            film.timeline.add_cut(start_s + time_s)
        faces = [(3 if time_s < seconds / 2 else 4, 0)]
        faces += [(5, track) for track in range(1, people) if track <= time_s + 1 < track + 1]
        for label, track in faces:
            probabilities, shown_s = np.full(7, 0.05, np.float32), start_s + time_s
            probabilities[label] = 0.7
            rest = (label, label, probabilities, (0.0, 0.0, 9.0, 9.0), track > 0, None, None)
            film.update(Observation(index, shown_s, shown_s, 1 / fps, track, *rest))
    return film


def data_of(path: Path) -> dict:
    return json.loads(re.search(r"const DATA = (.*?);</script>", path.read_text(encoding="utf-8"))[1])


def test_the_page_holds_the_timeline_of_every_person(tmp_path: Path) -> None:
    people = film(3)
    write_timeline_page(people, tmp_path / "t.html", "a </script>&.mp4", "a </script>.annotated.mp4")
    data = data_of(tmp_path / "t.html")
    timeline = data["timeline"]
    assert (timeline["width_s"], timeline["start_s"], timeline["cuts_s"], data["more"]) == (0.1, 0, [10.0], 0)
    assert data["range_s"] == [0, pytest.approx(20)]
    assert [person["person"] for person in timeline["persons"]] == [1, 2, 3]
    assert [person["mostly"] for person in timeline["persons"]] == [
        "happy 50%", "mostly unsure, surprise 100%", "mostly unsure, surprise 100%"]  # fmt: skip
    for person, row in zip(timeline["persons"], people.people, strict=True):
        means = people.timeline.mean_probabilities(row.track)[1]
        again = np.full_like(means, np.nan)
        for start, values, unsure in person["runs"]:
            block = np.array(values).reshape(-1, 7) / 1000
            again[start : start + len(block)] = block
            assert unsure == [int(row.track > 0)] * len(block)
        np.testing.assert_allclose(again, means, atol=6e-4)  # NaN where NaN
    assert "a &lt;/script&gt;&amp;.mp4" in (tmp_path / "t.html").read_text(encoding="utf-8")


def test_a_page_of_many_persons_and_of_nobody_stays_small(tmp_path: Path) -> None:
    people = film(MAX_PERSONS + 50, seconds=MAX_PERSONS + 60, fps=4)
    write_timeline_page(people, tmp_path / "t.html", "crowd.mp4")
    data = data_of(tmp_path / "t.html")
    assert (len(data["timeline"]["persons"]), data["more"], data["media"]) == (
        MAX_PERSONS,
        len(people.people) - MAX_PERSONS,
        None,
    )
    assert (tmp_path / "t.html").stat().st_size < 6e6
    write_timeline_page(PeopleAccumulator(FER2013), tmp_path / "none.html", "empty.mp4")
    assert data_of(tmp_path / "none.html")["timeline"]["persons"] == []


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else object())
    with pytest.raises(MissingExtra, match=rf"{package}: is not installed .* pip install 'mien\[report\]'"):
        write_timeline_page(film(), tmp_path / "t.html", "a.mp4")
    assert list(tmp_path.iterdir()) == []


class Opened:
    """A page in a browser without a network; leaving it fails where the console complained or something was asked for."""

    def __init__(self, browser, path: Path, width: int = 1280, scheme: str = "light", allowed: tuple[str, ...] = ()):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        self.page, self.troubles, self.allowed = self.context.new_page(), [], (path.as_uri(), *allowed)
        self.page.on("console", lambda message: self.troubles.append(message.text) if message.type != "log" else None)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self._ask(request.url))
        self.page.goto(path.as_uri(), wait_until="load")
        self.page.wait_for_selector(".nsewdrag", timeout=60_000)
        self.page.wait_for_function("document.getElementById('now').textContent")

    def _ask(self, url: str) -> None:
        if not url.startswith("data:") and url not in self.allowed:
            self.troubles.append(url)

    def __enter__(self):
        return self.page

    def __exit__(self, kind, *_) -> None:
        self.context.close()
        if kind is None:
            assert self.troubles == []


def click_at(page, share: float, row: int = 0) -> None:
    """Click at a share of the plot's width."""
    place = page.locator(".nsewdrag").nth(row)
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    page.mouse.move(box["x"] + share * box["width"], box["y"] + 40, steps=3)
    page.wait_for_timeout(200)
    page.mouse.click(box["x"] + share * box["width"], box["y"] + 40)


def pointer(page) -> float:
    """Where the pointer stands, as a share of the plot's width."""
    line, plot = page.locator("#pointer").bounding_box(), page.locator(".nsewdrag").first.bounding_box()
    return (line["x"] + 1 - plot["x"]) / plot["width"]


@pytest.mark.slow
def test_a_click_shows_the_frame_and_the_pointer_follows_the_video(browser, tmp_path: Path) -> None:
    name = "clip #1 50%.annotated.mp4"
    make_clip(tmp_path / name, seconds=20, fps=Fraction(10), size_wh=(160, 120), sound=None)
    write_timeline_page(film(), tmp_path / "clip.timeline.html", "clip.mp4", name)
    with Opened(browser, tmp_path / "clip.timeline.html", allowed=((tmp_path / name).as_uri(),)) as page:
        page.wait_for_function("video.readyState > 1")
        for share, row, words in ((0.25, 0, "happy 70%"), (0.75, 1, "sad 70%"), (0.025, 0, "person 2: surprise? 70%")):
            click_at(page, share, row)
            page.wait_for_function(f"Math.abs(video.currentTime - {20 * share}) < 0.1 && !video.seeking")
            assert words in page.inner_text("#now")
            assert pointer(page) == pytest.approx(share, abs=0.006)
        page.evaluate("video.muted = true, video.play()")
        page.wait_for_function("video.currentTime > 1.2")
        page.evaluate("video.pause()")
        page.wait_for_timeout(300)
        assert pointer(page) == pytest.approx(page.evaluate("video.currentTime") / 20, abs=0.006)


@pytest.mark.slow
def test_of_a_part_the_times_are_those_of_the_whole_video(browser, tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", seconds=20, fps=Fraction(10), size_wh=(160, 120), sound=None)
    write_timeline_page(film(start_s=60), tmp_path / "t.html", "clip.mp4", "a.mp4", 60.0, 80.0)
    with Opened(browser, tmp_path / "t.html", allowed=((tmp_path / "a.mp4").as_uri(),)) as page:
        page.wait_for_function("video.readyState > 1")
        click_at(page, 0.75)
        page.wait_for_function("Math.abs(video.currentTime - 15) < 0.1 && !video.seeking")
        assert page.inner_text("#now strong") in ("1:14.9", "1:15.0")
        assert "person 1: sad 70%" in page.inner_text("#now")
        assert pointer(page) == pytest.approx(0.75, abs=0.006)


@pytest.mark.slow
def test_without_a_video_the_time_is_shown(browser, tmp_path: Path) -> None:
    write_timeline_page(film(), tmp_path / "t.html", "clip.mp4")
    with Opened(browser, tmp_path / "t.html") as page:
        assert not page.is_visible("video")
        click_at(page, 0.75)
        page.wait_for_function("document.querySelector('#now strong').textContent.startsWith('0:1')")
        assert page.inner_text("#now strong") in ("0:14.9", "0:15.0")
        assert "person 1: sad 70%" in page.inner_text("#now")
        page.locator("#slider").focus()
        page.keyboard.press("Home")  # by keyboard too
        assert page.inner_text("#now strong") == "0:00.0"
    write_timeline_page(film(), tmp_path / "lost.html", "clip.mp4", "gone.mp4")
    lost = Opened(browser, tmp_path / "lost.html", allowed=((tmp_path / "gone.mp4").as_uri(),))
    with lost as page:
        page.wait_for_selector("#absent", state="visible")
        assert page.inner_text("#absent").startswith("gone.mp4 does not lie beside this page")
        assert not page.is_visible("video")
        lost.troubles[:] = [text for text in lost.troubles if "ERR_FILE_NOT_FOUND" not in text]  # the browser's own


@pytest.mark.slow
def test_persons_are_chosen_and_a_part_is_looked_at_closely(browser, tmp_path: Path) -> None:
    write_timeline_page(film(12), tmp_path / "t.html", "clip.mp4")
    with Opened(browser, tmp_path / "t.html") as page:
        rows = "document.querySelectorAll('.nsewdrag').length"
        boxes = page.locator("#chooser input")
        assert (boxes.count(), page.evaluate(rows)) == (12, FIRST_PERSONS)
        assert page.inner_text("#count") == "6 of 12 shown"
        page.click("#none")
        boxes.nth(7).check()
        page.wait_for_function(f"{rows} === 1")
        boxes.nth(0).check()
        page.wait_for_function(f"{rows} === 2")
        place = page.locator(".nsewdrag").first
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 30)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 30, steps=8)
        page.mouse.up()
        page.wait_for_function("Math.abs(document.getElementById('plot').layout.xaxis.range[0] - 10) < 0.2")
        assert page.evaluate("document.getElementById('plot').layout.xaxis.range[1]") == pytest.approx(15, abs=0.2)
        page.wait_for_timeout(500)
        click_at(page, 0.5)
        page.wait_for_function("document.querySelector('#now strong').textContent.startsWith('0:12.')")
        page.click("#whole")
        page.wait_for_function("document.getElementById('plot').layout.xaxis.range[1] > 19.9")


@pytest.mark.slow
def test_it_fits_narrow_and_wide_windows_by_day_and_by_night(browser, tmp_path: Path) -> None:
    labels = tuple(f"{name} in a long word" for name in FER2013)  # of a model's own
    write_timeline_page(film(12, labels=labels), tmp_path / "t.html", "a_long_name_" * 8 + ".mp4")
    shutil.move(tmp_path / "t.html", tmp_path / "alone.html")  # a page needs no file beside it
    for width in (360, 768, 1440):
        for scheme in ("light", "dark"):
            with Opened(browser, tmp_path / "alone.html", width, scheme) as page:
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                ink = page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill")
                paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
                dark_ink, dark_paper = (sum(map(int, re.findall(r"\d+", text)[:3])) < 380 for text in (ink, paper))
                assert (dark_ink, dark_paper) == ((True, False) if scheme == "light" else (False, True))
                plot, board = (page.locator(name).bounding_box() for name in (".nsewdrag >> nth=0", "#board"))
                assert plot["width"] > 0.8 * board["width"]
