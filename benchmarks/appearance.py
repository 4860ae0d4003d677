"""Matching of faces by appearance: small crops compared with the features of the network.

python benchmarks/appearance.py [--data fer2013-publictest.parquet] [--faces 1200] [--seed 0]

A face is compared with itself, shifted, rotated, scaled, relit and with noise, and with another face of the same predicted
expression. The threshold of the tracker (mien.analysis.tracking.tracker) was chosen by this table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from data_files import require_data_file

from mien.analysis.inference.classifier import Classifier
from mien.analysis.tracking.tracker import appearance_embeddings
from mien.data import load_faces


def distort_face(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distort a gray face uint8 (48, 48) as in a later frame."""
    matrix = cv2.getRotationMatrix2D((24, 24), rng.uniform(-8, 8), rng.uniform(0.92, 1.08))
    matrix[:, 2] += rng.uniform(-2, 2, 2)
    moved = cv2.warpAffine(image, matrix, (48, 48), borderMode=cv2.BORDER_REPLICATE).astype(float)
    lit = moved * rng.uniform(0.85, 1.15) + rng.uniform(-10, 10) + rng.normal(0, 4, moved.shape)
    return np.clip(lit, 0, 255).astype(np.uint8)


def embed_crops(images: np.ndarray) -> np.ndarray:
    whole = np.array([[0, 0, 48, 48]], np.float32)
    return np.concatenate([appearance_embeddings(np.repeat(image[..., None], 3, axis=2), whole) for image in images])


def compute_features(images: np.ndarray, classifier: Classifier) -> np.ndarray:
    found, _ = classifier.features(images)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--faces", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, classifier = np.random.default_rng(options.seed), Classifier("base")
    faces = load_faces([options.data or require_data_file("fer2013-publictest.parquet")])
    images = faces.images[rng.permutation(len(faces))[: options.faces]]
    again = np.stack([distort_face(image, rng) for image in images])
    read_as = classifier.probabilities(images).argmax(axis=1)
    others = np.array([rng.choice(np.flatnonzero(read_as == one)) for one in read_as])
    different = others != np.arange(len(images))
    print(
        "| compared | threshold | the same face reaches it | another of that expression reaches it |\n|---|---|---|---|"
    )
    for name, first, second in (
        ("crops of 12 × 12", embed_crops(images), embed_crops(again)),
        ("the network's features", compute_features(images, classifier), compute_features(again, classifier)),
    ):
        same, other = (first * second).sum(axis=1), (first * second[others]).sum(axis=1)[different]
        for threshold in (0.6, 0.7, 0.75, 0.8, 0.9, 0.95):
            print(f"| {name} | {threshold} | {(same >= threshold).mean():.1%} | {(other >= threshold).mean():.1%} |")


if __name__ == "__main__":
    main()
