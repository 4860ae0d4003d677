"""What x264's settings cost and give: milliseconds of processor time a frame, megabytes a minute, and how far pictures are
from the original, on the walking people of people.py, clean and with a camera's noise.

python benchmarks/encoder.py [--seconds 4]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from clips import ASTRONAUT
from people import FPS, SCENES, SIZE_WH, make_actors, render_frames

from mien.analysis.media.video_writer import encoder_options
from mien.analysis.media.yuv import YuvImage

CHOICES = {
    "veryfast, its own quality 23": {"preset": "veryfast"},
    **{f"ours at quality {crf}": encoder_options() | {"crf": crf} for crf in ("22", "23", "24", "25", "26")},
    **{
        f"ours, flat areas favored {strength}": encoder_options() | {"aq-strength": strength} for strength in ("0", "1")
    },
    "ours, ultrafast at 23": encoder_options() | {"preset": "ultrafast", "crf": "23"},
}


def make_noisy_frames(seconds: float, noise: float) -> list[YuvImage]:
    rng = np.random.default_rng(0)
    found = []
    for picture, _ in render_frames(SCENES["walking"], seconds, make_actors([ASTRONAUT])):
        if noise:
            picture = np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)
        found.append(YuvImage.from_rgb(picture))
    return found


def encode_frames(originals: list[YuvImage], options: dict[str, str], path: Path) -> tuple[float, float, float]:
    """(ms of processor time a frame, MB a minute, peak signal-to-noise ratio of brightness in dB)."""
    with av.open(str(path), "w", format="nut") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        (stream.width, stream.height), stream.pix_fmt = SIZE_WH, "yuv420p"
        stream.codec_context.thread_type = "FRAME"
        started = time.process_time()
        for number, planes in enumerate(originals):
            planes.frame.pts = number
            container.mux(stream.encode(planes.frame))
        container.mux(stream.encode(None))
        spent = time.process_time() - started
    with av.open(str(path)) as container:
        errors = [
            np.square(YuvImage(frame, planes.color_spec).luma.astype(np.float32) - planes.luma).mean()
            for frame, planes in zip(container.decode(video=0), originals, strict=True)
        ]
    minutes = len(originals) / FPS / 60
    return (
        1000 * spent / len(originals),
        path.stat().st_size / 1e6 / minutes,
        10 * np.log10(255**2 / float(np.mean(errors))),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    for noise in (0.0, 4.0):
        originals = make_noisy_frames(options.seconds, noise)
        print(
            f"\n{'clean' if not noise else f'noise of {noise:g} levels'}\n\n| | ms a frame | MB a minute | dB |\n|---|---|---|---|"
        )
        with tempfile.TemporaryDirectory() as folder:
            for name, choice in CHOICES.items():
                cost, size, quality = encode_frames(originals, choice, Path(folder) / "clip.nut")
                print(f"| {name} | {cost:.1f} | {size:.1f} | {quality:.1f} |")


if __name__ == "__main__":
    main()
