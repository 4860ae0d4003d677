"""Make the pictures of docs/page.md again: a service, Chromium before it, and the page as a person sees it.

python docs/screenshots.py [--detector-model YUNET.onnx] [NAME...]     all, or those named: picture, video, camera ...
python docs/screenshots.py --tiny FOLDER                               a shorter film, pictures in FOLDER: shows that it runs

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

from mien.analysis.output.palette import COLORS  # noqa: E402
from mien.core.files import replace_file  # noqa: E402
from mien.core.pictures import read_picture  # noqa: E402
from tests.conftest import find_chromium  # noqa: E402
from tests.service.page.conftest import serving  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = Path(__file__).resolve().parent / "images"
ASTRONAUT = ROOT / "examples" / "astronaut.jpg"
#: Where the face lies in the photograph, in pixels.
FACE_XY = (224, 118)
#: No picture of the documents is larger.
MOST_BYTES = 200_000


def view(
    photo: np.ndarray,
    size_wh: tuple[int, int],
    *,
    at_xy: tuple[float, float],
    zoom: float,
    turn: float = 0,
    blur: float = 0,
) -> np.ndarray:
    """The photograph enlarged, its face at ``at_xy``, turned by degrees, out of focus by so many pixels."""
    matrix = cv2.getRotationMatrix2D(FACE_XY, turn, zoom)
    matrix[:, 2] += np.array(at_xy) - FACE_XY
    picture = cv2.warpAffine(photo, matrix, size_wh, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
    return cv2.GaussianBlur(picture, (0, 0), blur) if blur > 0.3 else picture


def film(photo: np.ndarray, seconds: float, fps: int) -> Iterator[np.ndarray]:
    """Two people who sway, and a camera that loses its focus on one after the other."""
    for number in range(round(seconds * fps)):
        t = number / fps
        left, right = (
            view(
                photo,
                (480, 540),
                at_xy=(235 + 15 * np.sin(0.9 * t + phase), 148),
                zoom=1.36 + 0.08 * np.sin(0.7 * t + phase),
                turn=4 * np.sin(1.1 * t + phase),
                blur=blur * np.exp(-(((t - lost_s) / 1.0) ** 2)),
            )
            for phase, blur, lost_s in ((0, 11, 4.2), (2, 9.5, 8.4))
        )
        yield np.hstack([left, right[:, ::-1]])


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
    frames = [view(photo, (1280, 720), at_xy=(560, 292 + np.sin(n / 2)), zoom=2.5) for n in range(12)]
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
        page.wait_for_timeout(1000)  # the list comes
        if not page.locator(".job").count():
            page.set_input_files("#video-file", self.media / "two people.mp4")
        page.locator(".job[data-kind^=done]").wait_for(timeout=600_000)
        page.locator(".job a").first.click()
        page.wait_for_selector(".timeline .main-svg")
        page.locator(".moment canvas.drawn").last.wait_for()
        return page


def picture(studio: Studio) -> Page:
    page = studio.open(height=990)
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


def reduced(pixels: np.ndarray, colors: int) -> np.ndarray:
    """uint8 (N, 3) → at most so many colors (K, 3), among which rare ones count too."""
    each, counts = np.unique(pixels, axis=0, return_counts=True)
    few = np.repeat(each, np.ceil(counts**0.4).astype(int), axis=0)
    made = Image.fromarray(few[None]).quantize(colors, Image.Quantize.MEDIANCUT).getpalette()
    return np.array(made[: 3 * colors]).reshape(-1, 3)


def palette(shot: np.ndarray, photo_xyxy: tuple[int, int, int, int], colors: int) -> Image.Image:
    """A palette that the page and the photograph in it share: else a photograph leaves none for a small colored bar."""
    x1, y1, x2, y2 = photo_xyxy
    outside = np.ones(shot.shape[:2], bool)
    outside[y1:y2, x1:x2] = False
    each, counts = np.unique(shot[outside], axis=0, return_counts=True)
    exact = each[np.argsort(-counts)[: colors // 6]]  # backgrounds, lines and words keep their own colors
    named = np.array([[int(color[at : at + 2], 16) for at in (1, 3, 5)] for color in COLORS.values()])
    room = colors - len(exact) - len(named)
    others = [reduced(shot[outside], room // 3)]
    if not outside.all():
        others.append(reduced(shot[~outside], room - room // 3))
    flat = np.concatenate([exact, named, *others]).ravel().tolist()
    keeper = Image.new("P", (1, 1))
    keeper.putpalette(flat + flat[:3] * (256 - len(flat) // 3))
    return keeper


def keep(png: bytes, photo_xyxy: tuple[int, int, int, int], path: Path) -> None:
    """As a PNG with as many colors as fit into the limit."""
    shot = Image.open(io.BytesIO(png)).convert("RGB")
    for colors in (256, 192, 128, 96, 64):
        buffer = io.BytesIO()
        shared = palette(np.asarray(shot), photo_xyxy, colors)
        shot.quantize(palette=shared, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() < MOST_BYTES:
            break
    with replace_file(path) as part:
        part.write_bytes(buffer.getvalue())
    print(f"{path}: {shot.width} x {shot.height}, {buffer.tell() / 1000:.0f} kB, {colors} colors")


def photo_of(page: Page) -> tuple[int, int, int, int]:
    """Where in the window a photograph or a film is shown: x1, y1, x2, y2, empty if there is none."""
    shown = page.locator(".frame:visible")
    area = shown.first.bounding_box() if shown.count() else None
    if area is None:
        return 0, 0, 0, 0
    return round(area["x"]), round(area["y"]), round(area["x"] + area["width"]), round(area["y"] + area["height"])


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*SHOTS, []], help="which; all by default")
    parser.add_argument("--detector-model", type=Path, help="a YuNet file; default: the detector that is there")
    parser.add_argument("--tiny", type=Path, metavar="FOLDER", help="write pictures of a shorter film there")
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
        write_film(media / "two people.mp4", seconds=6 if options.tiny else 12)
        write_camera(media / "camera.mjpeg")
        flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                 f"--use-file-for-fake-video-capture={media / 'camera.mjpeg'}"]  # fmt: skip
        browser = play.chromium.launch(executable_path=chromium, args=flags)
        studio = Studio(browser, address, media)
        for name in options.names or SHOTS:
            page = SHOTS[name](studio)
            keep(page.screenshot(), photo_of(page), (options.tiny or IMAGES) / f"page-{name}.png")
            page.context.close()
        browser.close()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
