"""How long drawing takes: two faces on 1280 x 720, without and with bars.

python benchmarks/drawing.py [--times 300]
"""

from __future__ import annotations

import argparse
import timeit

import numpy as np

from mien.analysis.output.annotate import draw_faces
from mien.analysis.output.style import Style
from mien.core.labels import FER2013
from mien.core.types import Face

REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=300, help="frames of each run")
    times = parser.parse_args().times
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (720, 1280, 3), np.uint8)
    frames = []
    for _ in range(min(50, times)):  # probabilities change from frame to frame, as in a video
        raw = rng.dirichlet(np.ones(len(FER2013)), 2).astype(np.float32)
        boxes = [(270.0, 170.0, 380.0, 300.0), (800.0, 180.0, 910.0, 310.0)]
        frames.append([Face(box, 0.9, p, FER2013, k, p, FER2013[int(p.argmax())]) for k, (box, p) in enumerate(zip(boxes, raw, strict=True))])  # fmt: skip
    for name, style in (("boxes and labels", Style()), ("with bars", Style(bars=True))):
        runs = timeit.repeat(lambda: [draw_faces(picture, faces, style) for faces in frames], number=times // len(frames), repeat=REPEATS)  # noqa: B023  # fmt: skip
        print(f"{name}: {1000 * min(runs) / times:.2f} to {1000 * max(runs) / times:.2f} ms a frame ({REPEATS} runs)")


if __name__ == "__main__":
    main()
