"""Make the pictures of docs/page.md again: a service, Chromium before it, and the page as a person sees it.

python docs/screenshots.py [--detector-model YUNET.onnx] [NAME...]     all, or those named: picture, video, camera ...

The only face in them is the one in examples/astronaut.jpg (NASA, public domain); the film is made of it.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from mien.core.files import replacing  # noqa: E402
from mien.core.pictures import read_picture  # noqa: E402
from tests.app.page.conftest import find_chromium, serving  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = Path(__file__).resolve().parent / "images"
ASTRONAUT = ROOT / "examples" / "astronaut.jpg"
#: Where the face lies in the photograph, in pixels.
FACE_XY = (224, 118)
#: No picture of the documents is larger.
MOST_BYTES = 200_000


def view(
    photo: np.ndarray, size_wh: tuple[int, int], *, turn: float, zoom: float, blur: float, dx: float = 0
) -> np.ndarray:
    """The photograph around its face: turned by degrees, enlarged, out of focus by so many pixels."""
    width, height = size_wh
    matrix = cv2.getRotationMatrix2D(FACE_XY, turn, zoom)
    matrix[:, 2] += np.array([width / 2 + dx, height * 0.38]) - FACE_XY
    picture = cv2.warpAffine(photo, matrix, size_wh, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
    return cv2.GaussianBlur(picture, (0, 0), blur) if blur > 0.3 else picture


def film(photo: np.ndarray, seconds: float, fps: int) -> Iterator[np.ndarray]:
    """Two people who sway, and a camera that loses its focus on one after the other."""
    for number in range(round(seconds * fps)):
        t = number / fps
        first = view(photo, (480, 540), turn=9 * np.sin(1.1 * t), zoom=1.25 + 0.15 * np.sin(0.7 * t), blur=13 * np.exp(-(((t - 4.2) / 0.9) ** 2)), dx=25 * np.sin(0.9 * t))  # fmt: skip
        second = view(photo, (480, 540), turn=-8 * np.cos(0.9 * t), zoom=1.1 + 0.1 * np.cos(0.8 * t), blur=16 * np.exp(-(((t - 8.6) / 1.1) ** 2)), dx=20 * np.cos(1.1 * t))  # fmt: skip
        yield np.hstack([first, second[:, ::-1]])


def write_film(path: Path, seconds: float = 12, fps: int = 25) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 960, 540, "yuv420p"
        for picture in film(read_picture(ASTRONAUT), seconds, fps):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))


def write_camera(path: Path) -> None:
    """What the browser's camera films: one person, calm."""
    photo = read_picture(ASTRONAUT)
    frames = [view(photo, (1280, 720), turn=2 * np.sin(n / 8), zoom=2, blur=0, dx=60) for n in range(12)]
    path.write_bytes(b"".join(cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in frames))


class Studio:
    """A browser, a service, and the media that are shown to it."""

    def __init__(self, browser: Browser, address: str, media: Path) -> None:
        self.browser, self.address, self.media = browser, address, media

    def open(
        self, place: str = "", *, width: int = 1280, height: int = 800, scheme: str = "light", locale: str = "en-GB"
    ) -> Page:
        context = self.browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, locale=locale, permissions=["camera"]
        )
        context.add_init_script("localStorage.getItem('mien.settings') || localStorage.setItem('mien.settings', '{\"understood\":true}')")  # fmt: skip
        page = context.new_page()
        page.goto(f"{self.address}{place}")
        page.wait_for_selector("html[data-ready]")
        return page

    def open_film(self, **look: object) -> Page:
        """The film, read; it is sent once."""
        page = self.open("#video", **look)
        if not page.locator(".job").count():
            page.set_input_files("#video-file", self.media / "two people.mp4")
        page.locator(".job[data-kind^=done]").wait_for(timeout=600_000)
        page.locator(".job a").first.click()
        page.wait_for_selector(".timeline .main-svg")
        page.locator(".moment canvas.drawn").last.wait_for()
        return page


def picture(studio: Studio) -> Page:
    page = studio.open(height=880)
    page.set_input_files("#picture-file", studio.media / "two faces.png")
    page.wait_for_selector(".chip")
    asking = page.get_by_role("button", name="Show where it looked")
    if asking.count():
        asking.click()
        page.locator(".crops figure:visible").nth(1).wait_for(timeout=180_000)
    page.mouse.move(0, 0)
    return page


def video(studio: Studio) -> Page:
    page = studio.open_film(height=1120)
    page.locator("#cinema video").evaluate("video => video.currentTime = 4.7")
    page.wait_for_timeout(1500)
    return page


def camera(studio: Studio) -> Page:
    page = studio.open("#camera", height=760)
    page.get_by_role("button", name="Turn the camera on").click()
    page.wait_for_selector("#camera-bars .most")
    page.wait_for_timeout(2000)
    page.get_by_role("button", name="Record").click()
    page.wait_for_timeout(2500)
    return page


def settings_dark(studio: Studio) -> Page:
    return studio.open("#settings", height=960, scheme="dark")


def chinese_dark(studio: Studio) -> Page:
    page = studio.open(height=880, scheme="dark", locale="zh-CN")
    page.set_input_files("#picture-file", ASTRONAUT)
    page.wait_for_selector(".answer")
    return page


def phone(studio: Studio) -> Page:
    page = studio.open(width=390, height=844)
    page.set_input_files("#picture-file", studio.media / "two faces.png")
    page.wait_for_selector(".chip")
    return page


def phone_video(studio: Studio) -> Page:
    page = studio.open_film(width=390, height=844, scheme="dark")
    page.locator("#cinema video").evaluate("video => video.currentTime = 4.7")
    page.wait_for_timeout(1500)
    return page


def models(studio: Studio) -> Page:
    page = studio.open("#library", height=760)
    page.wait_for_selector(".model")
    return page


SHOTS: dict[str, Callable[[Studio], Page]] = {
    "picture": picture, "video": video, "camera": camera, "models": models, "settings-dark": settings_dark,
    "chinese-dark": chinese_dark, "phone": phone, "phone-video": phone_video,
}  # fmt: skip


def keep(png: bytes, path: Path) -> None:
    """A palette of 256 colours, or as many as fit into the limit: a page has few, a photograph in it does without the rest."""
    shot = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (256, 128, 64, 32):
        buffer = io.BytesIO()
        dither = Image.Dither.NONE if colours < 256 else Image.Dither.FLOYDSTEINBERG
        shot.quantize(colours, Image.Quantize.MEDIANCUT, dither=dither).save(buffer, "PNG", optimize=True)
        if buffer.tell() < MOST_BYTES:
            break
    with replacing(path) as part:
        part.write_bytes(buffer.getvalue())
    print(f"{path.relative_to(ROOT)}: {shot.width} x {shot.height}, {buffer.tell() / 1000:.0f} kB, {colours} colours")


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*SHOTS, []], help="which; all by default")
    parser.add_argument("--detector-model", type=Path, help="a YuNet file; default: the detector that is there")
    options = parser.parse_args()
    extra = ["--detector-model", str(options.detector_model.resolve())] if options.detector_model else []
    chromium = find_chromium()
    if chromium is None:
        sys.exit("no Chromium: make test-browser installs one")
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder) / "state", *extra) as address,
        sync_playwright() as play,
    ):
        media = Path(folder)
        face = read_picture(ASTRONAUT)
        Image.fromarray(np.hstack([face, face[:, ::-1]])).save(media / "two faces.png")
        write_film(media / "two people.mp4")
        write_camera(media / "camera.mjpeg")
        flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                 f"--use-file-for-fake-video-capture={media / 'camera.mjpeg'}"]  # fmt: skip
        browser = play.chromium.launch(executable_path=chromium, args=flags)
        studio = Studio(browser, address, media)
        for name in options.names or SHOTS:
            page = SHOTS[name](studio)
            keep(page.screenshot(), IMAGES / f"page-{name}.png")
            page.context.close()
        browser.close()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
