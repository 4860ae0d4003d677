"""What honest uncertainty is worth on faces that are harder than the validation faces, in float and int8.

python benchmarks/doubt.py                 PublicTest as it is, and after each of several changes for the worse

For each: accuracy, expected calibration error, the share of the faces that is answered, how often these answers are right,
and the share of these real faces that would be taken for no face.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import cv2
import numpy as np
from places import find

from mien.analysis.inference.classifier import Classifier
from mien.data.readers import load_faces
from mien.evaluation.calibration import measure_reliability
from mien.evaluation.selective import measure_threshold


def each(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda images: np.stack([change(image) for image in images])


def moved(degrees: float = 0, scale: float = 1, right: float = 0) -> Callable[[np.ndarray], np.ndarray]:
    matrix = cv2.getRotationMatrix2D((23.5, 23.5), degrees, scale)
    matrix[0, 2] += right
    return each(lambda image: cv2.warpAffine(image, matrix, (48, 48), borderMode=cv2.BORDER_REPLICATE))


def smaller(side: int) -> Callable[[np.ndarray], np.ndarray]:
    return each(lambda image: cv2.resize(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), (48, 48)))


def covered(images: np.ndarray) -> np.ndarray:
    images = images.copy()
    images[:, 28:] = 128
    return images


def noisy(images: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 25, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as they are": lambda images: images,
    "blurred, 1.5 pixels": each(lambda image: cv2.GaussianBlur(image, (0, 0), 1.5)),
    "16 pixels wide": smaller(16),
    "noise, deviation 25": noisy,
    "a third of the light": lambda images: (images * 0.33).astype(np.uint8),
    "turned by 20 degrees": moved(degrees=20),
    "turned by 40 degrees": moved(degrees=40),
    "framed too wide, 0.7": moved(scale=0.7),
    "framed too narrow, 1.4": moved(scale=1.4),
    "10 pixels off": moved(right=10),
    "lower part covered": covered,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--faces", type=int, default=800, help="how many of the split")
    arguments = parser.parse_args()
    faces = load_faces([find("fer2013-publictest.parquet")])
    real = np.flatnonzero(faces.votes[:, 9] == 0)
    faces = faces.take(np.sort(np.random.default_rng(0).permutation(real)[: arguments.faces]))
    print(f"{len(faces)} faces of PublicTest that no rater of FER+ called no face")
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
