"""Calibration and unsure labels on distorted faces, for float and int8 models.

python benchmarks/uncertainty.py                 PublicTest, unchanged and with each distortion

For each: accuracy, expected calibration error, coverage and accuracy of the labels that are not unsure, and the share of
these faces that would be classified as no face.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import cv2
import numpy as np
from data_files import require_data_file

from mien.analysis.inference.classifier import Classifier
from mien.data.readers import load_faces
from mien.evaluation.calibration import measure_reliability
from mien.evaluation.selective import measure_threshold


def apply_to_each(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda images: np.stack([change(image) for image in images])


def warp(degrees: float = 0, scale: float = 1, right: float = 0) -> Callable[[np.ndarray], np.ndarray]:
    matrix = cv2.getRotationMatrix2D((23.5, 23.5), degrees, scale)
    matrix[0, 2] += right
    return apply_to_each(lambda image: cv2.warpAffine(image, matrix, (48, 48), borderMode=cv2.BORDER_REPLICATE))


def downscale(side: int) -> Callable[[np.ndarray], np.ndarray]:
    return apply_to_each(
        lambda image: cv2.resize(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), (48, 48))
    )


def cover_lower_part(images: np.ndarray) -> np.ndarray:
    images = images.copy()
    images[:, 28:] = 128
    return images


def add_noise(images: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 25, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as they are": lambda images: images,
    "blurred, 1.5 pixels": apply_to_each(lambda image: cv2.GaussianBlur(image, (0, 0), 1.5)),
    "16 pixels wide": downscale(16),
    "noise, deviation 25": add_noise,
    "a third of the light": lambda images: (images * 0.33).astype(np.uint8),
    "turned by 20 degrees": warp(degrees=20),
    "turned by 40 degrees": warp(degrees=40),
    "framed too wide, 0.7": warp(scale=0.7),
    "framed too narrow, 1.4": warp(scale=1.4),
    "10 pixels off": warp(right=10),
    "lower part covered": cover_lower_part,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--faces", type=int, default=800, help="how many of the split")
    arguments = parser.parse_args()
    faces = load_faces([require_data_file("fer2013-publictest.parquet")])
    real = np.flatnonzero(faces.votes[:, 9] == 0)
    faces = faces.take(np.sort(np.random.default_rng(0).permutation(real)[: arguments.faces]))
    print(f"{len(faces)} faces of PublicTest that no annotator of FER+ called no face")
    for precision in ("float", "int8"):
        classifier = Classifier(arguments.model, precision=precision)
        print(f"\n{precision:<24}  accuracy  calibration  answered  right of these  taken for no face")
        for name, change in CHANGES.items():
            probabilities, none = classifier.predict(change(faces.images))
            right = (probabilities.argmax(axis=1) == faces.labels).mean()
            left = measure_threshold(probabilities, faces.labels, classifier.info.thresholds["unsure"])
            error = measure_reliability(probabilities, faces.labels).calibration_error
            lost = (none > classifier.info.thresholds["not_a_face"]).mean()
            print(f"{name:<24}  {right:>8.1%}  {error:>11.1%}  {left.coverage:>8.1%}  {left.accuracy:>14.1%}  {lost:>17.1%}",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
