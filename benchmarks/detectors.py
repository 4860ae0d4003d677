"""Compare the face detectors: recall and false detections by size, tilt and light, speed, and cost of framing.

    python benchmarks/detectors.py composites      FER2013's PublicTest faces on photographs without people
    python benchmarks/detectors.py photographs DIR real photographs; YuNet's boxes are the reference where there are no others
    python benchmarks/detectors.py speed           milliseconds at four sizes

Composites show each face whole, with a soft border, at one place of a photograph without people; the photographs of
scikit-image that took no part in any training are used, and those of --backgrounds. One property varies at a time. A face is
found if a box overlaps its square by an IoU of at least 0.35. Photographs: a CSV boxes.csv in DIR with the columns
path,x1,y1,x2,y2 replaces YuNet as the reference.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from data_files import YUNET, find_data_file, require_data_file

from mien.analysis.detection.detectors import Detector, detect_faces, make_detector
from mien.analysis.tracking.tracker import pairwise_iou
from mien.core.pictures import read_picture
from mien.core.preprocessing import convert_to_gray
from mien.data import load_faces
from mien.training.release.negatives import load_photographs

FOUND_IOU, FALSE_IOU = 0.35, 0.1
CANVAS_WH = (640, 480)
SIZES = (20, 28, 40, 64, 100, 160, 260)
TILTS = (0, 15, 30, 40)
LIGHTS = {"dark": (0.3, 10), "flat": (0.35, 90), "normal": (1.0, 0), "bright": (0.6, 100)}


def paste_face(ground: np.ndarray, face: np.ndarray, side: int, tilt: float, light: tuple[float, float], rng) -> tuple:
    """Return a gray canvas with one face on it, and its square (4,)."""
    canvas = cv2.resize(ground, CANVAS_WH, interpolation=cv2.INTER_AREA).astype(np.float32)
    large = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA if side < 48 else cv2.INTER_CUBIC)
    axis = np.abs((np.arange(side) + 0.5) / side * 2 - 1)
    mask = np.clip((1 - (axis[None] ** 6 + axis[:, None] ** 6) ** (1 / 6)) * 6, 0, 1)
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), tilt, 1)
    large, mask = (cv2.warpAffine(layer.astype(np.float32), turn, (side, side)) for layer in (large, mask))
    x, y = (int(rng.integers(0, length - side + 1)) for length in CANVAS_WH)
    part = canvas[y : y + side, x : x + side]
    part[:] = mask * large + (1 - mask) * part
    gain, bias = light
    return np.clip(canvas * gain + bias, 0, 255).astype(np.uint8), np.array([x, y, x + side, y + side], np.float32)


def draw_composites(
    faces: np.ndarray, grounds: list[np.ndarray], count: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield (group, RGB picture, square of the face): ``count`` pictures of each group."""
    groups = [(f"{side} px", side, 0.0, LIGHTS["normal"]) for side in SIZES]
    groups += [(f"tilted {tilt}°", 80, float(tilt), LIGHTS["normal"]) for tilt in TILTS]
    groups += [(name, 80, 0.0, light) for name, light in LIGHTS.items()]
    for name, side, tilt, light in groups:
        rng = np.random.default_rng(7)
        for _ in range(count):
            face, ground = faces[rng.integers(len(faces))], grounds[rng.integers(len(grounds))]
            sign = rng.choice([-1.0, 1.0])
            gray, square = paste_face(ground, face, side, sign * tilt, light, rng)
            yield name, cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), square


def count_matches(boxes: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Return how many of the true boxes (N, 4) were found, and how many boxes (M, 4) overlap none of them."""
    if not len(boxes):
        return 0, 0
    if not len(truth):
        return 0, len(boxes)
    overlap = pairwise_iou(boxes, truth)
    return int((overlap.max(axis=0) >= FOUND_IOU).sum()), int((overlap.max(axis=1) < FALSE_IOU).sum())


def compare_composites(detectors: list[Detector], options: argparse.Namespace) -> None:
    faces = load_faces(options.data or require_data_file("fer2013-publictest.parquet"))
    is_face = np.ones(len(faces), bool) if faces.votes is None else faces.votes[:, -1] == 0
    grounds = [convert_to_gray(photograph) for photograph in load_photographs(1)]
    for folder in options.backgrounds:
        grounds += [convert_to_gray(read_picture(path)) for path in sorted(folder.rglob("*.jpg"))]
    totals: dict[str, dict[str, list[int]]] = {}
    for group, picture, square in draw_composites(faces.images[is_face], grounds, options.count):
        for detector in detectors:
            found, false = count_matches(detect_faces(detector, picture).boxes_xyxy, square[None])
            row = totals.setdefault(group, {}).setdefault(detector.name, [0, 0, 0])
            row[:] = [row[0] + 1, row[1] + found, row[2] + false]
    print(f"| {len(grounds)} backgrounds | " + " | ".join(f"{one.name}: found, false" for one in detectors) + " |")
    for group, rows in totals.items():
        print(f"| {group} | " + " | ".join(f"{100 * f / n:.1f} %, {wrong}" for n, f, wrong in rows.values()) + " |")


def compare_photographs(detectors: list[Detector], options: argparse.Namespace) -> None:
    paths = sorted(path for path in options.folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    marked: dict[str, list[list[float]]] = {}
    if (options.folder / "boxes.csv").exists():
        with (options.folder / "boxes.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                marked.setdefault(row["path"], []).append([float(row[name]) for name in ("x1", "y1", "x2", "y2")])
    yunet = None if marked else options.detector_model or require_data_file(YUNET)
    reference = None if yunet is None else make_detector("yunet", yunet)
    totals, truths = {detector.name: [0, 0] for detector in detectors}, 0
    for path in paths:
        picture = read_picture(path)
        truth = np.array(marked.get(path.name, []), np.float32).reshape(-1, 4)
        truth = truth if reference is None else detect_faces(reference, picture).boxes_xyxy
        truths += len(truth)
        for detector in detectors:
            found, false = count_matches(detect_faces(detector, picture).boxes_xyxy, truth)
            totals[detector.name] = [totals[detector.name][0] + found, totals[detector.name][1] + false]
    source = "boxes.csv" if marked else "YuNet's boxes as the reference"
    print(f"{len(paths)} photographs, {truths} faces ({source})")
    for name, (found, false) in totals.items():
        print(f"| {name} | {found} found ({100 * found / max(truths, 1):.0f} %) | {false} false |")


def compare_speed(detectors: list[Detector], options: argparse.Namespace) -> None:
    photograph = read_picture(Path(__file__).resolve().parent.parent / "examples" / "astronaut.jpg")
    print("| picture | " + " | ".join(f"{one.name}, ms" for one in detectors) + " |")
    for side in (256, 512, 1024, 2048):
        picture = cv2.resize(photograph, (side, side), interpolation=cv2.INTER_AREA)
        cells = []
        for detector in detectors:
            times = []
            for _ in range(options.runs + 1):
                start = time.perf_counter()
                detect_faces(detector, picture)
                times.append(1000 * (time.perf_counter() - start))
            cells.append(f"{statistics.median(times[1:]):.1f} ({min(times[1:]):.1f} to {max(times[1:]):.1f})")
        print(f"| {side} × {side} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("composites", "photographs", "speed"))
    parser.add_argument("folder", type=Path, nargs="?", help="folder of photographs")
    parser.add_argument("--detectors", default="haar,yunet")
    parser.add_argument("--detector-model", type=Path, help=f"default: {YUNET}")
    parser.add_argument("--own-model", type=Path, help="a file of 'mien train-detector'")
    parser.add_argument("--data", type=Path, help="faces; default: fer2013-publictest.parquet")
    parser.add_argument("--backgrounds", type=Path, nargs="*", default=[], help="folders of photographs without people")
    parser.add_argument("--count", type=int, default=200, help="pictures of each group")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.what == "photographs" and options.folder is None:
        parser.error("name the folder of the photographs")
    yunet = options.detector_model or find_data_file(YUNET)
    names = [name for name in options.detectors.split(",") if name != "yunet" or yunet is not None]
    cv2.setNumThreads(options.threads)
    detectors = [make_detector(name, yunet if name == "yunet" else None, threads=options.threads) for name in names]
    if options.own_model is not None:
        detectors.append(make_detector("auto", options.own_model, threads=options.threads))
    actions = {"composites": compare_composites, "photographs": compare_photographs, "speed": compare_speed}
    actions[options.what](detectors, options)


if __name__ == "__main__":
    main()
