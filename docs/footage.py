"""Make the pictures of docs/people.md and docs/drawing.md: of a clip of two faces that go out of focus, and of made-up records.

python docs/footage.py WORK_FOLDER --detector-model face_detection_yunet_2023mar.onnx [--chromium /usr/bin/chromium]
python docs/footage.py WORK_FOLDER --tiny      shorter clips, pictures in WORK_FOLDER: shows that it runs
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

from mien.analysis.output.annotate import annotate
from mien.analysis.output.style import Style
from mien.analysis.output.timeline_page import write_timeline_page
from mien.analysis.output.writers import make_records, record_path, record_writer
from mien.analysis.people.records import read_clip
from mien.analysis.recognizer import Recognizer
from mien.analysis.tracking.smoothing import Smoother
from mien.cli.main import main as mien
from mien.core.labels import FER2013
from mien.core.pictures import read_picture
from mien.core.types import Face, FrameResult

HERE = Path(__file__).resolve().parent
ASTRONAUT = HERE.parent / "examples" / "astronaut.jpg"
RATE, SIDE = 15, 320


def blur_frames(photo: np.ndarray, strength: float) -> np.ndarray:
    return photo if strength < 0.3 else cv2.GaussianBlur(photo, (0, 0), strength)


def frames(seconds: int) -> Iterator[np.ndarray]:
    """RGB: the photograph and its mirror image, each going out of focus in its own time; one of them fades for a while."""
    photo = cv2.resize(read_picture(ASTRONAUT), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    for index in range(seconds * RATE):
        time_s = index / RATE
        left = blur_frames(photo, max(0.0, 6 * np.sin(time_s * 0.8)))
        right = blur_frames(photo[:, ::-1], max(0.0, 6 * np.sin(time_s * 0.55 + 2)))
        light = np.clip(np.abs(time_s - 8) - 1, 0.05, 1)
        yield np.hstack([left, np.rint(right * light).astype(np.uint8)])


def make_clip_of_two(path: Path, seconds: int = 16) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(RATE), options={"crf": "20"})
        video.width, video.height, video.pix_fmt = 2 * SIDE, SIDE, "yuv420p"
        for picture in frames(seconds):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))


def make_up_records(stem: Path, seed: int, seconds: int, people: int, usual: Sequence[float]) -> Path:
    """Records of nobody: people whose expressions, drawn by chance, last about three seconds; ``usual``: how often each is."""
    rng, smoother = np.random.default_rng(seed), Smoother()
    labels = rng.choice(len(FER2013), people, p=usual)
    with record_writer(stem, ("jsonl",), FER2013) as records:
        for index in range(seconds * 25):
            labels = np.where(rng.random(people) < 0.012, rng.choice(len(FER2013), people, p=usual), labels)
            faces = []
            for track, label in enumerate(labels):
                raw = rng.dirichlet(0.5 + 7.5 * np.eye(len(FER2013))[label]).astype(np.float32)
                state = smoother.update(track, raw, index / 25)
                if track == 0 or (index // 200 + 2 * track) % 7 > 1:
                    values = (track, state.probabilities, FER2013[state.label])
                    faces.append(Face((0.0, 0.0, 9.0, 9.0), 0.9, raw, FER2013, *values))
            result = FrameResult(f"{stem.name}.mp4", index, index / 25, (9, 9), tuple(faces), duration_s=1 / 25)
            records.write(make_records(result, "-", "-"))
    return record_path(stem, "jsonl")


def shrink_picture(source: Path, target: Path, width: int) -> None:
    """A PNG of at most this width with 256 colors: small enough for a repository."""
    picture = Image.open(source).convert("RGB")
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    picture.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--detector-model", help="a YuNet file; default: the detector that needs none")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    work, images = options.work, options.work if options.tiny else HERE / "images"
    detector = "yunet" if options.detector_model else "haar"
    chosen = ["--detector", detector, *(["--detector-model", options.detector_model] if options.detector_model else [])]
    work.mkdir(parents=True, exist_ok=True)
    make_clip_of_two(work / "pair.mp4", *([6] if options.tiny else []))
    mien(["analyze", str(work / "pair.mp4"), "--out", str(work), *chosen])
    mien(["moments", str(work / "pair.mp4"), "--label", "happy", "--top", "4", "--min-gap", "1", "--out", str(work)])
    interview = make_up_records(work / "interview", 0, 100, 5, (0.1, 0.05, 0.05, 0.3, 0.1, 0.1, 0.3))
    trailer = make_up_records(work / "trailer", 1, 56, 1, (0.05, 0.02, 0.2, 0.4, 0.08, 0.2, 0.05))
    mien(["plot", str(interview), str(trailer), "--out", str(work)])
    for name, width in (("interview.transitions", 1000), ("interview-trailer.compared", 900), ("pair.moments", 760)):
        shrink_picture(work / f"{name}.png", images / f"{name.split('.')[1]}.png", width)
    picture = read_picture(ASTRONAUT)
    faces = Recognizer(detector=detector, detector_model=options.detector_model).analyze(picture)
    Image.fromarray(annotate(picture, faces, Style(bars=True, display_width=640))[:420]).save(work / "drawing.full.png")
    shrink_picture(work / "drawing.full.png", images / "drawing.png", 640)
    records = read_clip(work / "pair.records.jsonl")
    page = work / "pair.timeline.html"
    write_timeline_page(records.people(), page, "pair.mp4", "pair.annotated.mp4")
    take_screenshot(page, work / "page.png", options.chromium)
    shrink_picture(work / "page.png", images / "timeline-page.png", 900)


def take_screenshot(page: Path, target: Path, chromium: str) -> None:
    """The page as a browser shows it, at a moment in which both are seen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page(viewport={"width": 1000, "height": 1120})
        opened.goto(page.resolve().as_uri())
        opened.wait_for_function("document.getElementById('video').readyState > 1")
        opened.evaluate("document.getElementById('video').currentTime = 4.4")
        opened.wait_for_timeout(1500)
        opened.screenshot(path=str(target))
        browser.close()


if __name__ == "__main__":
    main()
