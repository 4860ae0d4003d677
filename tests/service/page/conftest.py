"""A real service, a real browser before it, and files to drop: what the page's tests share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from mien.core.pictures import read_picture
from tests.conftest import ASTRONAUT, ROOT, launched_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CAMERA_SIZE_WH = (640, 480)


@contextmanager
def serving(state: Path, *options: str) -> Iterator[str]:
    """`mien serve` at a free port, with the detector that needs no file; gives its address."""
    command = [sys.executable, "-m", "mien.cli.main", "serve", "--port", "0", "--state", str(state), *options]
    environment = os.environ | {"MIEN_CACHE": str(state / "cache"), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    log = state / "serve.log"
    state.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=state, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        said = process.stdout.readline()
        assert "mien is at " in said, f"{said}\n{log.read_text()}"
        yield said.split("mien is at ")[1].split()[0]
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service that the tests of the page share."""
    pytest.importorskip("fastapi", reason="the service needs its extra: pip install 'mien[serve]'")
    with serving(tmp_path_factory.mktemp("service")) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium whose camera films the astronaut."""
    film = tmp_path_factory.mktemp("camera") / "film.mjpeg"
    film.write_bytes(b"".join(cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in camera_frames(20)))
    flags = (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
        "--autoplay-policy=no-user-gesture-required",
    )
    with launched_chromium(*flags) as launched:
        yield launched


def camera_frames(count: int) -> list[np.ndarray]:
    """RGB frames of a calm camera: the photograph, swaying a little."""
    from clips import make_views

    return list(make_views([read_picture(ASTRONAUT)], count, CAMERA_SIZE_WH, count))


@dataclass
class Watched:
    """What went on while a page was open.

    ``expected`` holds parts of console errors that a test provokes on purpose: a browser writes one for every answer
    with a status of 400 or more.
    """

    address: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._see(request.url))
        page.on("websocket", lambda socket: self._see(socket.url.replace("ws", "http", 1)))

    def _see(self, url: str) -> None:
        origin = "/".join(self.address.split("/")[:3])  # a blob has no path of its own
        if not url.startswith((self.address, "data:", f"blob:{origin}/")):
            self.foreign.append(url)

    def check(self) -> None:
        assert [error for error in self.errors if not any(part in error for part in self.expected)] == []
        assert self.foreign == []


@pytest.fixture
def opened(service: str, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open the page: ``opened("#video", width=360, locale="zh-CN", expected=["422"])``.

    Whatever a test does, at its end no error may stand in the console and no other host have been asked.
    """
    contexts, watches = [], []

    def open_page(
        place: str = "",
        *,
        address: str = service,
        width: int = 1280,
        height: int = 900,
        locale: str = "en-US",
        scheme: str = "light",
        expected: tuple[str, ...] = (),
        ready: bool = True,
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height}, locale=locale, color_scheme=scheme, permissions=["camera"],
            reduced_motion="reduce",
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        watched = Watched(address, expected=list(expected))
        watches.append(watched)
        watched.watch(page)
        page.goto(f"{address}{place}")
        if ready:
            page.wait_for_selector("html[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    for watched in watches:
        watched.check()


@pytest.fixture(scope="session")
def two_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same face twice, side by side."""
    picture = read_picture(ASTRONAUT)
    return save(tmp_path_factory.mktemp("pictures") / "two, faces.png", np.hstack([picture, picture]))


@pytest.fixture(scope="session")
def no_face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sky."""
    sky = np.linspace((40, 90, 160), (200, 220, 240), 300).astype(np.uint8)
    return save(tmp_path_factory.mktemp("pictures") / "sky.png", np.repeat(sky[:, None], 400, axis=1))


def save(path: Path, picture: np.ndarray) -> Path:
    from PIL import Image

    Image.fromarray(picture).save(path)
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of the astronaut, with sound."""
    from clips import make_clip

    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    make_clip(path, seconds=4, size_wh=(480, 360), fps=Fraction(15))
    return path


@pytest.fixture(scope="module")
def read_clip(service: str, browser: Browser, clip: Path) -> str:
    """The name of a video that the service has read already."""
    context = browser.new_context()
    try:
        file = {"name": "ready.mp4", "mimeType": "video/mp4", "buffer": clip.read_bytes()}
        job = context.request.post(f"{service}v1/videos", multipart={"file": file}).json()["job"]
        for _ in range(1200):
            if context.request.get(f"{service}v1/jobs/{job['id']}").json()["state"] == "done":
                return job["name"]
            time.sleep(0.1)
    finally:
        context.close()
    raise AssertionError("the service did not read the clip")


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough that something can happen while it is read."""
    from clips import make_clip

    path = tmp_path_factory.mktemp("clips") / "long.mp4"
    make_clip(path, seconds=10, size_wh=(320, 240), sound=None)
    return path
