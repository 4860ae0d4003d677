"""How detectors frame FER2013 faces, and what that costs in accuracy.

    python benchmarks/framing.py            on PublicTest: share found, accuracy from the detected and the given crop
    python benchmarks/framing.py --fit      on Training: the framing of each detector, to be put into mien/analysis/detection/detectors.py

Each 48 x 48 face is enlarged to 96..288 pixels and laid somewhere into a canvas of twice its side, which goes on beyond
the face's border as its edge pixels ("edge") or in flat gray ("gray"). The detector that `mien analyze` uses looks for
it; its box is cut out with its framing, as `mien analyze` does, and classified, and so is the face as it was given.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from data_files import YUNET, require_data_file

from mien.analysis.detection.detectors import Detector, HaarDetector, detect_faces, make_detector
from mien.analysis.detection.framing import crop_faces
from mien.analysis.inference.classifier import Classifier
from mien.core.progress import progress_bar
from mien.core.types import FaceSet
from mien.data import load_faces

FILLS = ("edge", "gray")


def place_on_canvas(face: np.ndarray, fill: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(RGB canvas, the face's square as xyxy) for one gray face (H, W)."""
    side = int(rng.integers(96, 289))
    left, top = rng.integers(side // 8, side - side // 8, 2)
    enlarged = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
    border = (top, side - top, left, side - left)
    mode = cv2.BORDER_REPLICATE if fill == "edge" else cv2.BORDER_CONSTANT
    canvas = cv2.copyMakeBorder(enlarged, *(int(pixels) for pixels in border), mode, value=128)
    return cv2.cvtColor(canvas, cv2.COLOR_GRAY2RGB), np.array([left, top, left + side, top + side], float)


def find_box(detector: Detector, canvas: np.ndarray, square: np.ndarray) -> np.ndarray | None:
    """The surest box whose center lies in the face's square, or None."""
    for box in detect_faces(detector, canvas).boxes_xyxy:
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        if square[0] < x < square[2] and square[1] < y < square[3]:
            return box
    return None


def detect_all(faces: FaceSet, detector: Detector, fill: str, seed: int, size: int):
    """(indices of found faces, their boxes, their squares, their crops as the runtime cuts them)."""
    rng = np.random.default_rng(seed)
    indices, boxes, squares, crops = [], [], [], []
    with progress_bar(f"{detector.name} {fill}", len(faces)) as bar:
        for index, face in enumerate(faces.images):
            canvas, square = place_on_canvas(face, fill, rng)
            box = find_box(detector, canvas, square)
            if box is not None:
                indices.append(index)
                boxes.append(box)
                squares.append(square)
                crops.append(crop_faces(canvas, box[None], detector.framing, size)[0])
            bar.advance(1)
    return np.array(indices), np.array(boxes), np.array(squares), np.array(crops)


def fit_framing(boxes: np.ndarray, squares: np.ndarray) -> tuple[float, float, float]:
    """(side, right, down) of the framing: medians, so that a few misplaced boxes do not count."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    offset = (squares[:, :2] + squares[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2 / sizes
    side = (squares[:, 2] - squares[:, 0]) / np.sqrt(sizes.prod(axis=1))
    return float(np.median(side)), float(np.median(offset[:, 0])), float(np.median(offset[:, 1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="fit the framings instead of measuring them")
    parser.add_argument("--data", type=Path, help="default: fer2013-publictest.parquet, or -training with --fit")
    parser.add_argument("--detector-model", type=Path, help=f"default: {YUNET}")
    parser.add_argument("--detectors", default="haar,yunet")
    parser.add_argument("--cascade", default="alt", help="Haar's cascade: alt, alt2 or default")
    parser.add_argument("--model", default="base")
    parser.add_argument("--limit", type=int, default=0, help="use this many faces, drawn with seed 0")
    options = parser.parse_args()
    faces = load_faces(
        options.data or require_data_file(f"fer2013-{'training' if options.fit else 'publictest'}.parquet")
    )
    if options.limit:
        faces = faces.take(np.sort(np.random.default_rng(0).permutation(len(faces))[: options.limit]))
    classifier = None if options.fit else Classifier(options.model)
    for name in options.detectors.split(","):
        if name == "haar":
            detector = HaarDetector(options.cascade)
        else:
            detector = make_detector(name, options.detector_model or require_data_file(YUNET))
        results = {fill: detect_all(faces, detector, fill, seed=1, size=48) for fill in FILLS}
        if options.fit:
            both = [np.concatenate([results[fill][part] for fill in FILLS]) for part in (1, 2)]
            side, right, down = fit_framing(*both)
            print(
                f"{name}: Framing(side={side:.3f}, right={right:.3f}, down={down:.3f})  from {len(both[0]):,} boxes of {len(faces):,} faces"
            )
            continue
        faces = faces.reindex_classes(classifier.labels)
        for fill, (indices, _, _, crops) in results.items():
            truth = faces.labels[indices]
            detected = (classifier.probabilities(crops).argmax(axis=1) == truth).mean()
            given = (classifier.probabilities(faces.images[indices]).argmax(axis=1) == truth).mean()
            print(
                f"{name} {fill}: found {len(indices) / len(faces):.1%} of {len(faces):,} faces; accuracy on these: given crop "
                f"{given:.2%}, detected crop {detected:.2%}, loss {100 * (given - detected):+.2f} points"
            )


if __name__ == "__main__":
    main()
