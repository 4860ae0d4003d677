"""Videos made from photographs, with pan, zoom, cut and sound: for benchmarks, tests and examples.

python benchmarks/clips.py OUT.mp4 --seconds 60 --size 640x480 [--photos FOLDER] [--variable] [--no-sound]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from mien.core.pictures import read_picture

HERE = Path(__file__).resolve().parent
ASTRONAUT = HERE.parent / "examples" / "astronaut.jpg"
#: Ticks of one second: divisible by the frame rates in use, so that every frame time is a whole number.
TICKS = 90_000


def make_views(photos: Sequence[np.ndarray], frames: int, size_wh: tuple[int, int], shot: int) -> Iterator[np.ndarray]:
    """RGB frames: each photograph in turn for ``shot`` frames, panned and zoomed smoothly; then a cut to the next."""
    width, height = size_wh
    for number in range(frames):
        photo = photos[number // shot % len(photos)]
        progress = number % shot / shot
        zoom = 1 + 0.4 * np.sin(np.pi * progress)  # in, then out again
        scale = zoom * max(width / photo.shape[1], height / photo.shape[0])
        slack = np.array([photo.shape[1] - width / scale, photo.shape[0] - height / scale])
        left, top = slack * [0.5 + 0.3 * np.sin(2 * np.pi * progress), 0.25]
        matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
        yield cv2.warpAffine(photo, matrix, size_wh, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def make_times(seconds: float, fps: Fraction, variable: bool) -> list[int]:
    """Presentation times in ticks; ``variable``: the steps are two, three, one and one frame lengths in turn."""
    count = round(seconds * fps)
    positions = np.cumsum(np.resize([1, 2, 3, 1] if variable else [1], count)) - 1
    return [round(int(position) * TICKS / fps) for position in positions if position < count]


def make_clip(
    path: Path,
    *,
    seconds: float = 2.0,
    size_wh: tuple[int, int] = (320, 240),
    fps: Fraction = Fraction(25),
    photos: Sequence[np.ndarray] | None = None,
    sound: str | None = "aac",
    rate: int = 48_000,
    sound_seconds: float | None = None,
    variable: bool = False,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    ratio: Fraction | None = None,
    pictures: Iterable[np.ndarray] | None = None,
) -> list[float]:
    """Write a video and return its frames' times in seconds.

    ``pictures`` are the frames themselves; without them they are views of ``photos``.
    ``sound`` is an audio codec's name, or None; it lasts as long as the pictures unless ``sound_seconds`` says else.
    ``ratio`` is the width of a pixel over its height, if they are not square.
    """
    stamps = make_times(seconds, fps, variable)
    if pictures is None:
        pictures = make_views(photos or [read_picture(ASTRONAUT)], len(stamps), size_wh, max(1, round(3 * fps)))
    sound_seconds = seconds if sound_seconds is None else sound_seconds
    with av.open(str(path), "w") as container:
        video = container.add_stream(
            codec, rate=fps, options={"crf": "20", "preset": "veryfast"} if codec == "libx264" else {}
        )
        video.width, video.height, video.pix_fmt = *size_wh, pixels
        if ratio:
            video.codec_context.sample_aspect_ratio = ratio
        if variable:
            video.codec_context.time_base = video.time_base = Fraction(1, TICKS)
        audio = container.add_stream(sound, rate=rate) if sound else None
        sounded = 0
        for stamp, picture in zip(stamps, pictures, strict=False):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (
                (stamp, Fraction(1, TICKS)) if variable else (round(stamp * fps / TICKS), 1 / fps)
            )
            container.mux(video.encode(frame))
            while audio is not None and sounded / rate <= min(stamp / TICKS, sound_seconds):
                container.mux(audio.encode(make_tone(sounded, 1024, rate)))
                sounded += 1024
        container.mux(video.encode(None))
        if audio is not None:
            while sounded / rate < sound_seconds:
                container.mux(audio.encode(make_tone(sounded, 1024, rate)))
                sounded += 1024
            container.mux(audio.encode(None))
    return [stamp / TICKS for stamp in stamps]


def make_tone(start: int, count: int, rate: int) -> av.AudioFrame:
    """A quiet 440 Hz tone, ``count`` samples from sample ``start``."""
    wave = 0.1 * np.sin(2 * np.pi * 440 * np.arange(start, start + count) / rate)
    frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
    frame.rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
    return frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--fps", type=Fraction, default=Fraction(30))
    parser.add_argument("--photos", type=Path, help="folder of photographs; default: the astronaut")
    parser.add_argument("--variable", action="store_true", help="variable frame rate")
    parser.add_argument("--no-sound", action="store_true")
    options = parser.parse_args()
    photos = [read_picture(path) for path in sorted(options.photos.glob("*.jpg"))] if options.photos else None
    width, height = (int(side) for side in options.size.split("x"))
    make_clip(
        options.out,
        seconds=options.seconds,
        size_wh=(width, height),
        fps=options.fps,
        photos=photos,
        variable=options.variable,
        sound=None if options.no_sound else "aac",
    )


if __name__ == "__main__":
    main()
