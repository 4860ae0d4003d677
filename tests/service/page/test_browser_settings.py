"""The page in Chromium: settings, languages, widths, the keyboard, models and reports.

The fixture ``opened`` ends every test with two checks: no error in the console, no request to another host.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mien.core.pictures import read_picture
from tests.conftest import ASTRONAUT
from tests.service.page.conftest import save, serving
from tests.service.page.steps import TABS, Open, open_job, read, until

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.slow


def test_settings_are_kept_and_used(opened: Open, tmp_path: Path) -> None:
    page = opened("#settings")
    page.get_by_label("Theme").select_option("dark")
    page.get_by_label("Detector").select_option("none")
    page.get_by_label("Text size").select_option("26")
    page.get_by_label("Boxes are").select_option("one")
    page.get_by_label("Color", exact=True).fill("#ff0000")
    page.get_by_label("Smoothing").fill("0.5")
    page.get_by_label("Size of pictures").select_option("480")
    page.get_by_label("Line width").fill("6")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    page.wait_for_selector("#set-theme")
    assert page.get_by_label("Theme").input_value() == "dark"
    assert page.get_by_label("Smoothing").input_value() == "0.5"
    assert page.get_by_label("Line width").input_value() == "6"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    assert sum(map(int, re.findall(r"\d+", dark)[:3])) < 100
    page.get_by_role("tab", name="Picture").click()
    read(page, save(tmp_path / "face.png", read_picture(ASTRONAUT)[20:200, 140:320].repeat(4, 0).repeat(4, 1)))
    page.wait_for_selector(".face")  # without a detector the whole picture is a face
    canvas = page.locator("#picture-stage canvas")
    assert canvas.evaluate("canvas => canvas.clientWidth") == 480
    line = canvas.evaluate("canvas => [...canvas.getContext('2d').getImageData(1, 120, 1, 1).data]")
    assert line == [255, 0, 0, 255]
    page.get_by_role("tab", name="Settings").click()
    page.get_by_role("button", name="Back to the original settings").click()
    assert page.get_by_label("Theme").input_value() == "system"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


def test_a_change_of_the_detector_reads_the_picture_again(opened: Open, two_faces: Path) -> None:
    page = opened()
    read(page, two_faces)
    page.get_by_role("tab", name="Settings").click()
    page.get_by_label("Faces", exact=True).select_option("largest")
    page.get_by_role("tab", name="Picture").click()
    page.get_by_text("1 face ·").wait_for()
    assert page.get_by_text("2 faces ·").count() == 0


#: Latin words that stay as they are in Chinese: names and formats.
NAMES = {"mien", "Ctrl", "V", "JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "MP4", "MOV", "MKV", "WebM", "AVI", "GB", "MB", "kB", "CSV", "JSON",
         "lines", "Parquet", "Haar", "YuNet", "FER", "base", "ferplus", "large", "nano", "haar", "HTTP", "English", "F1", "MIT", "float32", "float16", "PublicTest", "localhost", "https",
         "serve", "reports", "DIR", "report", "compare", "Grad", "CAM", "two", "faces", "png", "clip", "ready", "mp4", "long", "old", "avi", "part", "mkv", "between"}  # fmt: skip


def test_chinese(opened: Open, two_faces: Path, read_clip: str) -> None:
    page = opened(locale="zh-CN")
    assert page.get_attribute("html", "lang") == "zh-CN"

    def latin() -> set[str]:
        """Words of what is shown, and of the names that screen readers read."""
        names = page.evaluate(
            "[...document.querySelectorAll('[aria-label], [title]')].filter(e => e.checkVisibility()).map(e => e.ariaLabel ?? e.title).join(' ')"
        )
        return set(re.findall(r"[A-Za-z][A-Za-z0-9]*", page.inner_text("body") + " " + names)) - NAMES

    for tab in TABS:
        page.locator(f"#tab-{tab}").click()
        if tab == "library":
            page.wait_for_selector(".model")
        assert latin() == set(), tab
    page.locator("#tab-picture").click()
    read(page, two_faces)
    assert latin() == set()
    assert page.inner_text(".answer").startswith("高兴")
    page.locator("#tab-video").click()
    page.get_by_role("button", name=f"打开 {read_clip}").click()
    page.wait_for_selector(".timeline .main-svg")
    assert latin() == set()
    page.locator("#tab-settings").click()
    page.locator("#set-language").select_option("en")
    assert page.inner_text("#tab-picture") == "Picture"
    assert page.get_attribute("html", "lang") == "en"


def test_both_languages_have_the_same_words(opened: Open) -> None:
    page = opened()
    words = page.evaluate("async () => (await import('/page/words.js')).WORDS")
    english = {key: text for key, text in words["en"].items() if not key.endswith("=1")}
    assert english.keys() == words["zh"].keys()

    def blanks(text: str) -> set[str]:
        return set(re.findall(r"{\w+}", text))

    assert [key for key, text in english.items() if blanks(text) != blanks(words["zh"][key])] == []


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
@pytest.mark.parametrize("width", [320, 360, 768, 1000, 1280])
def test_the_header_fits(opened: Open, width: int, locale: str) -> None:
    """All tabs are in view, and none lies over another."""
    page = opened(width=width, height=700, locale=locale)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    boxes = [page.locator(f"#tab-{tab}").bounding_box() for tab in TABS]
    edges = [(box["x"], box["x"] + box["width"]) for box in boxes]
    assert edges[0][0] >= 0 and edges[-1][1] <= width
    assert all(left[1] <= right[0] + 0.5 for left, right in pairwise(edges))
    cut = "tab => tab.scrollWidth > tab.clientWidth + 1"
    assert [tab for tab in TABS if page.locator(f"#tab-{tab}").evaluate(cut)] == []


def test_a_tab_opens_at_its_top(opened: Open) -> None:
    """No element bears the name that stands in the address: the browser would scroll to it."""
    page = opened(height=500)
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert set(ids).isdisjoint(TABS)
    for tab in reversed(TABS):
        page.locator(f"#tab-{tab}").click()
        until(page, f"document.querySelector('#panel-{tab}').checkVisibility() && scrollY === 0")
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.evaluate("scrollY") == 0, tab
        page.mouse.wheel(0, 400)


@pytest.mark.parametrize("width", [320, 1440])
def test_nothing_is_wider_than_the_window(opened: Open, two_faces: Path, read_clip: str, width: int) -> None:
    page = opened(width=width, height=760)

    def check(what: str) -> None:
        """Neither can the page be moved sideways, nor does something shown reach over its edge."""
        assert page.evaluate("document.documentElement.scrollWidth") <= width, what
        over = page.evaluate(
            """width => [...document.querySelectorAll("main :is(button, h1, h2, p, select, input, canvas, .card)")]
              .filter(e => e.checkVisibility() && !e.closest(".scroll, .strip-of-moments, .unseen") && e.getBoundingClientRect().right > width + 1)
              .map(e => e.outerHTML.slice(0, 80))""",
            width,
        )
        assert over == [], what

    for tab in TABS:
        page.locator(f"#tab-{tab}").click()
        page.wait_for_timeout(200)
        check(tab)
    page.locator("#tab-picture").click()
    read(page, two_faces)
    check("a picture")
    page.locator("#tab-video").click()
    open_job(page, read_clip)
    page.wait_for_selector(".timeline .main-svg")
    check("a video")
    page.locator("#tab-settings").click()
    page.locator("#tab-video").click()  # it is still open
    page.wait_for_selector("#cinema video")


def test_everything_by_keyboard(opened: Open, two_faces: Path) -> None:
    page = opened()
    choosers: list[Any] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))

    def focused() -> str:
        """What has the focus; it must be seen to have it."""
        name, style = page.evaluate(
            "(() => { const e = document.activeElement; return [e.id || e.className, getComputedStyle(e).outlineStyle] })()"
        )
        assert style != "none", name
        return name

    def tab_to(wanted: str, most: int = 40) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            if wanted in focused():
                return
        raise AssertionError(f"the keyboard does not reach {wanted}")

    tab_to("tab-picture")
    for key, name in (
        ("ArrowRight", "video"),
        ("End", "settings"),
        ("ArrowRight", "picture"),
        ("ArrowLeft", "settings"),
        ("Home", "picture"),
    ):
        page.keyboard.press(key)
        assert focused() == f"tab-{name}"
        assert page.locator(f"#panel-{name}").is_visible()
        assert page.locator("[role=tabpanel]:visible").count() == 1
    tab_to("picture-drop")
    page.keyboard.press("Enter")
    for _ in range(200):
        if choosers:
            break
        page.wait_for_timeout(50)
    choosers[0].set_files(two_faces)
    page.wait_for_selector(".chip")
    tab_to("chip")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.locator(".chip").nth(1).get_attribute("aria-pressed") == "true"
    assert page.locator(".face .over").inner_text() == "Face 2"
    with page.expect_download():
        for _ in range(10):
            page.keyboard.press("Tab")
            if "CSV" in page.evaluate("document.activeElement.textContent"):
                break
        page.keyboard.press("Enter")


def test_everything_that_can_be_used_has_a_name(opened: Open, two_faces: Path) -> None:
    page = opened()
    read(page, two_faces)
    for tab in TABS:
        page.locator(f"#tab-{tab}").click()
        page.wait_for_timeout(200)
        nameless = page.evaluate(
            """[...document.querySelectorAll("button, a, input, select, [role=slider], img")].filter(e => e.checkVisibility()).filter(e =>
              !(e.ariaLabel || e.textContent.trim() || e.labels?.length || e.alt !== undefined && e.hasAttribute("alt"))).map(e => e.outerHTML)"""
        )
        assert nameless == [], tab


def test_the_sentence_on_expressions_is_shown_once(opened: Open) -> None:
    page = opened()
    note = page.get_by_role("note")
    assert "not what a person feels" in note.inner_text()
    note.get_by_role("button", name="I see").click()
    assert not note.is_visible()
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert not note.is_visible()


def test_models_and_reports(browser: Any, opened: Open, tmp_path: Path) -> None:
    report = tmp_path / "reports" / "base"
    report.mkdir(parents=True)
    (report / "report.html").write_text("<!doctype html><title>A report</title><h1>A report</h1>", encoding="utf-8")
    with serving(tmp_path / "state", "--reports", str(tmp_path / "reports"), "--token", "open-sesame") as address:
        page = opened("#library", address=address, ready=False, expected=("status of 401",))
        page.get_by_role("textbox", name="Token").fill("wrong")
        page.get_by_role("button", name="Go on").click()
        page.get_by_text("That is not the token of this server.").wait_for()
        page.get_by_role("textbox", name="Token").fill("open-sesame")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="base", exact=True).first.wait_for()
        page.locator("summary").first.click()
        assert page.get_by_role("heading", name="Limitations").is_visible()
        with page.expect_popup() as popup:
            page.get_by_role("link", name="base").click()
        popup.value.wait_for_selector("h1")
        assert popup.value.inner_text("h1") == "A report"


def test_a_token_that_is_lost_is_asked_for_again_where_it_is_missed(opened: Open, tmp_path: Path) -> None:
    """The server was begun again with another token, or the cookie is gone."""
    with serving(tmp_path / "state", "--token", "open-sesame") as address:
        page = opened("#picture", address=address, ready=False, expected=("status of 401",))
        field = page.get_by_role("textbox", name="Token")
        field.fill("open-sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector("html[data-ready]")
        page.context.clear_cookies()
        page.get_by_role("tab", name="Video").click()
        field.wait_for()
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        field.wait_for()  # it comes back: there is nothing behind it
        field.fill("open-sesame")
        page.keyboard.press("Enter")
        field.wait_for(state="hidden")
        assert not field.is_visible()
        page.get_by_role("tab", name="Models").click()
        card = page.get_by_role("heading", name="base", exact=True).first
        card.wait_for()
        assert card.is_visible()
