"""Videos whose frames tell by their pixels which they are, and jobs that were never read: made up, and given to the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np

from mien.analysis.people.timeline import Timeline
from mien.core.pictures import read_picture
from tests.conftest import ASTRONAUT

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

FPS = 10
#: Milliseconds: what WebM and Matroska count by.
TICK = Fraction(1, 1000)
JOB = "00ff00ff00ff00ff"
TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".mkv": "video/x-matroska"}


def write_film(path: Path, frames: Iterable[np.ndarray], start_s: float = 0.0) -> Path:
    """RGB uint8 (H, W, 3) frames, 10 a second, whose timestamps begin at ``start_s``; the container goes by the name."""
    codec, options = ("libvpx", {"deadline": "realtime", "cpu-used": "8", "b": "2M"}) if path.suffix == ".webm" else (
        "libx264", {"crf": "16", "preset": "veryfast"}
    )  # fmt: skip
    frames = list(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = TICK
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * (start_s + number / FPS)), TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


SIZE_WH = (640, 360)
#: The astronaut's face is 140 px high here; the marker below it moves with it.
SPEED_PX_S = 120
MARKER_RGB = (255, 0, 255)


def marker_x(second: float) -> float:
    """Where the marker's middle is in the frame shown at a second: it stays until the next frame comes."""
    return 140 + SPEED_PX_S * np.floor(second * FPS + 1e-6) / FPS


def moving_face(seconds: float) -> Iterable[np.ndarray]:
    """The astronaut, who moves to the right over a gray ground."""
    photo = read_picture(ASTRONAUT)[:330, 60:390]  # her face lies in its middle, at x = 165
    photo = cv2.resize(photo, (260, 260), interpolation=cv2.INTER_AREA)
    photo[236:256, 120:140] = MARKER_RGB
    for number in range(round(seconds * FPS)):
        frame = np.full((SIZE_WH[1], SIZE_WH[0], 3), 128, np.uint8)
        left = round(marker_x(number / FPS)) - 130
        begin, end = max(left, 0), min(left + 260, SIZE_WH[0])
        frame[40:300, begin:end] = photo[:, begin - left : end - left]
        yield frame


#: A coded frame: two faces side by side, each a square of bits, the upper row the frame's number, the lower the face's.
CODE_WH, BITS, SIDE = (320, 160), 6, 120


def coded_frames(count: int) -> Iterable[np.ndarray]:
    for number in range(count):
        frame = np.full((CODE_WH[1], CODE_WH[0], 3), 90, np.uint8)
        for face in range(2):
            for row, value in enumerate((number, face + 1)):
                for bit in range(BITS):
                    x, y = 20 + 160 * face + bit * SIDE // BITS, 20 + row * SIDE // 2
                    frame[y : y + SIDE // 2, x : x + SIDE // BITS] = 255 if value >> bit & 1 else 0
        yield frame


def coded_box(face: int) -> list[float]:
    """The box around which a still, half as wide again, shows the whole square."""
    left, inset = 20 + 160 * face, SIDE / 6
    return [left + inset, 20 + inset, left + SIDE - inset, 20 + SIDE - inset]


#: What a still's canvas (128 × 128) tells: [frame, face].
DECODE = f"""canvas => [0.25, 0.75].map(row => Array.from({{ length: {BITS} }}, (_, bit) => bit).reduce((sum, bit) =>
  sum + (canvas.getContext("2d").getImageData(128 * (bit + 0.5) / {BITS}, 128 * row, 1, 1).data[0] > 128 ? 2 ** bit : 0), 0))"""


UNSURE_BELOW = 0.45


@dataclass
class Face:
    """Who shows what in one frame: the index of the label, and its probability; the rest is shared out evenly."""

    track: int
    label: int
    probability: float


def frames_answer(frames: list[list[Face]], labels: list[str], start_s: float = 0.0, **others: Any) -> dict[str, Any]:
    """What the service would tell of these frames, ten a second, with the boxes of coded frames."""

    def values(face: Face) -> list[float]:
        rest = (1 - face.probability) / (len(labels) - 1)
        return [face.probability if at == face.label else rest for at in range(len(labels))]

    tracks = sorted({face.track for faces in frames for face in faces})
    timeline = Timeline(tuple(labels))
    for number, faces in enumerate(frames):
        for face in faces:
            is_unsure = face.probability < UNSURE_BELOW
            timeline.update(face.track, np.array(values(face)), number / FPS, 1 / FPS, is_unsure)
    return {
        "width": CODE_WH[0], "height": CODE_WH[1], "seconds": len(frames) / FPS, "start_s": start_s, "labels": labels,
        "unsure_below": UNSURE_BELOW, "people": [person(track, frames, labels) for track in tracks], "not_faces": [],
        "times": [round(number / FPS, 3) for number in range(len(frames))],
        "faces": [[[face.track, *coded_box(face.track), face.label, values(face)] for face in faces] for faces in frames],
        "timeline": timeline.to_json(tracks),
    } | others  # fmt: skip


def person(track: int, frames: list[list[Face]], labels: list[str]) -> dict[str, Any]:
    shown = [(number, face) for number, faces in enumerate(frames) for face in faces if face.track == track]
    share = {name: sum(face.label == at for _, face in shown) / len(shown) for at, name in enumerate(labels)}
    sure = sum(face.probability >= UNSURE_BELOW for _, face in shown) / len(shown)
    return {
        "person": track + 1, "track": track, "first_s": shown[0][0] / FPS, "last_s": (shown[-1][0] + 1) / FPS,
        "on_screen_s": len(shown) / FPS, "frames": len(shown), "changes": 0, "share": share, "mean": share, "longest": {},
        "sure_share": round(sure, 4), "mostly_unsure": sure < 0.5, "not_a_face": False, "not_a_face_score": 0.0,
    }  # fmt: skip


def peak(track: int, label: str, frame: int, probability: float, *, unsure: bool = False) -> dict[str, Any]:
    return {
        "label": label, "track": track, "person": track + 1, "time_s": frame / FPS, "player_time_s": frame / FPS,
        "frame": frame, "probability": probability, "unsure": unsure, "box": coded_box(track),
    }  # fmt: skip


def job_answer(name: str, **others: Any) -> dict[str, Any]:
    return {
        "id": JOB, "name": name, "state": "done", "created": 1.0, "started": 1.0, "ended": 2.0, "progress": 1.0,
        "seconds_left": None, "text": "done", "error": None, "attempts": 1, "options": {}, "expires": None,
        "results": ["source"],
    } | others  # fmt: skip


def answer(value: Any, status: int = 200) -> Callable[[Route], None]:
    """A route's handler that gives this as JSON."""
    return lambda route: route.fulfill(status=status, content_type="application/json", body=json.dumps(value))


def serve_film(
    page: Page, film: Path, frames: dict[str, Any], peaks: Iterable[dict[str, Any]] = (), job: str = JOB
) -> None:
    """Have the page find a job that was read already: this film, with these frames and peaks."""
    content = film.read_bytes()

    def source(route: Route) -> None:
        asked = re.match(r"bytes=(\d+)-(\d*)", route.request.headers.get("range", ""))
        first, last = (int(asked[1]), int(asked[2] or len(content) - 1)) if asked else (0, len(content) - 1)
        route.fulfill(
            status=206 if asked else 200,
            headers={
                "content-type": TYPES[film.suffix], "accept-ranges": "bytes",
                "content-range": f"bytes {first}-{last}/{len(content)}",
            },
            body=content[first : last + 1],
        )  # fmt: skip

    page.route(f"**/v1/jobs/{job}", answer(job_answer(film.name, id=job)))
    page.route(f"**/v1/jobs/{job}/results/summary.json", answer({"seconds": frames["seconds"], "peaks": list(peaks)}))
    page.route(f"**/v1/jobs/{job}/frames?*", answer(frames))
    page.route(f"**/v1/jobs/{job}/results/source", source)
