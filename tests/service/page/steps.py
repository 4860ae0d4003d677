"""What the tests of the page do again and again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


Open = Callable[..., "Page"]
TABS = ("picture", "video", "camera", "library", "settings")


def read(page: Page, picture: Path) -> None:
    """Give a picture and wait for what was read."""
    page.set_input_files("#picture-file", picture)
    page.wait_for_selector("#picture-side .card")


def download(page: Page, button: Locator) -> tuple[str, bytes]:
    """(suggested name, content) of the file that a press on a button brings."""
    with page.expect_download() as waiting:
        button.click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def send(page: Page, video: Path) -> None:
    page.set_input_files("#video-file", video)
    page.wait_for_selector(".job")


def open_job(page: Page, name: str) -> None:
    """Wait until a video is read, and open it."""
    page.locator(".job[data-kind^=done]", has_text=name).get_by_role("button", name=f"Open {name}").click(
        timeout=120_000
    )
    page.wait_for_selector("#cinema video")
    until(page, "document.querySelector('#cinema video').readyState >= 2")


def until(page: Page, expression: str, seconds: float = 60) -> None:
    """Wait until JavaScript says so; asked from here, since the page's policy lets no text be run inside it."""
    for _ in range(int(seconds * 20)):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came: {expression}")


def second(page: Page) -> float:
    return page.evaluate("document.querySelector('#cinema video').currentTime")
