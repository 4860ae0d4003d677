"""Recall and precision of `mien audit` for planted errors.

    python benchmarks/planted_errors.py                      FER2013's Training and PublicTest, every face
    python benchmarks/planted_errors.py --faces 6000         a stratified sample, in minutes
    python benchmarks/planted_errors.py --out DIR            keep the folds' networks there, to go on after an interruption

A copy of the data gets 200 flipped labels, 200 duplicates (half of them exact; the others scaled down and up again, lit
otherwise or mirrored) and 100 pictures without a face: crops of the photographs that scikit-learn and, where it is
installed, scikit-image bring along, people left out, and patterns where neither is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from data_files import require_data_file

from mien.core.types import FaceSet
from mien.data import load_faces
from mien.data.duplicates import Duplicates, connected_components, find_duplicates
from mien.data.splits import sample_stratified
from mien.evaluation.audit.non_faces import score_non_faces

FILES = ("fer2013-training.parquet", "fer2013-publictest.parquet")
#: Photographs of scikit-image's wheel that show no human face.
PICTURES = (
    "brick cell chelsea coffee coins grass gravel hubble_deep_field ihc moon motorcycle_left page retina rocket text"
)


@dataclass(frozen=True)
class Planted:
    """The copy, and what was done to it: all int64 arrays of rows of ``faces``."""

    faces: FaceSet
    flipped: np.ndarray
    copies: np.ndarray
    sources: np.ndarray  # what each copy is a copy of
    kinds: np.ndarray  # str: exact, scaled, lit, mirrored
    nonfaces: np.ndarray


def plant_errors(faces: FaceSet, nonfaces: np.ndarray, flips: int, duplicates: int, seed: int = 0) -> Planted:
    """A copy of labeled faces with flipped labels, and with duplicates and pictures without a face at its end."""
    rng = np.random.default_rng(seed)
    lively = np.flatnonzero(faces.images.std(axis=(1, 2)) > 10)
    chosen = rng.permutation(lively)[: flips + duplicates]
    flipped, sources = chosen[:flips], chosen[flips:]
    labels = faces.labels.copy()
    labels[flipped] = (labels[flipped] + rng.integers(1, len(faces.classes), flips)) % len(faces.classes)
    changed = np.array(["scaled", "lit", "mirrored"])[np.arange(duplicates) % 3]
    kinds = np.where(np.arange(duplicates) < duplicates // 2, "exact", changed)
    copies = [_change_picture(faces.images[row], kind, rng) for row, kind in zip(sources, kinds, strict=True)]
    count, extra = len(faces), duplicates + len(nonfaces)
    names = [f"planted{index:04d}.png" for index in range(extra)]
    strangers = rng.integers(0, len(faces.classes), len(nonfaces))
    planted = replace(
        faces,
        images=np.concatenate([faces.images, np.stack(copies), nonfaces]),
        labels=np.concatenate([labels, labels[sources], strangers]),
        names=np.concatenate([faces.names, names]),
        split=np.concatenate([faces.split, rng.choice(faces.split, extra)]),
        votes=None,  # annotators would give the flips away
    )
    rows = count + np.arange(extra)
    return Planted(planted, flipped, rows[:duplicates], sources, kinds, rows[duplicates:])


def _change_picture(image: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """A copy of uint8 (H, W), changed as ``kind`` says."""
    if kind == "scaled":
        side = int(rng.integers(len(image) // 2, len(image) - 5))
        down = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        return cv2.resize(down, image.shape[::-1], interpolation=cv2.INTER_LINEAR)
    if kind == "lit":
        gain, offset = rng.uniform(0.7, 1.3), rng.uniform(-30, 30)
        return np.clip(image * gain + offset, 0, 255).astype(np.uint8)
    return image[:, ::-1] if kind == "mirrored" else image


def read_photographs() -> list[np.ndarray]:
    """Gray photographs without people, uint8 (H, W) of any size, of the packages that bring some along."""
    files = []
    for package, folder, names in (("skimage", "data", PICTURES.split()), ("sklearn", "datasets/images", None)):
        spec = find_spec(package)
        if spec is not None and spec.origin:
            found = sorted((Path(spec.origin).parent / folder).glob("*.[jp][pn]g"))
            files += [path for path in found if names is None or path.stem in names]
    return [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in files]


def crop_photographs(count: int, side: int, seed: int = 0) -> np.ndarray:
    """uint8 (count, side, side) without faces, of photographs, or patterns where there are none."""
    rng, pictures, made = np.random.default_rng(seed), read_photographs(), []
    while len(made) < count:
        if pictures:
            picture = pictures[len(made) % len(pictures)]
            wide = int(rng.integers(side, max(side, min(picture.shape) // 2) + 1))
            top, left = (int(rng.integers(0, length - wide + 1)) for length in picture.shape)
            crop = cv2.resize(picture[top : top + wide, left : left + wide], (side, side), interpolation=cv2.INTER_AREA)
        else:
            crop = cv2.resize(rng.integers(0, 256, [int(rng.integers(2, side))] * 2, np.uint8), (side, side))
        if crop.std() > 5:  # what is blank is found without skill
            made.append(crop)
    return np.stack(made)


def score_duplicates(planted: Planted, duplicates: Duplicates, real: Duplicates) -> dict[str, float]:
    """Recall over planted copies, precision over the pairs that they are in.

    A pair is right if both pictures go back to one source, or to sources that were duplicates before anything was planted.
    """
    links = np.stack([planted.sources, planted.copies], axis=1)
    family = np.arange(len(planted.faces))
    for group in connected_components(len(family), np.concatenate([links, real.pairs])):
        family[group] = group[0]
    about = np.isin(duplicates.pairs, planted.copies).any(axis=1)
    right = family[duplicates.pairs[:, 0]] == family[duplicates.pairs[:, 1]]
    together = np.arange(len(family))
    for group in duplicates.groups:
        together[group] = group[0]
    found = together[planted.copies] == together[planted.sources]
    return {
        "pairs": int(about.sum()),
        "precision": float(right[about].mean()),
        "recall": float(found.mean()),
        **{f"recall_{kind}": float(found[planted.kinds == kind].mean()) for kind in np.unique(planted.kinds).tolist()},
    }


def score_labels(planted: Planted, error_score: np.ndarray, share: float = 0.05) -> float:
    """Return the share of the flipped labels among the ``share`` of labels with the highest score, float (N,)."""
    top = np.argsort(-error_score, kind="stable")[: round(share * len(error_score))]
    return float(np.isin(planted.flipped, top).mean())


def main() -> None:
    arguments = _parse_arguments()
    faces = load_faces([require_data_file(name) for name in FILES])
    if arguments.faces:
        faces = faces.take(sample_stratified(faces.labels, [arguments.faces], 0)[0])
    started = time.perf_counter()
    real = find_duplicates(faces.images)
    planted = plant_errors(faces, crop_photographs(100, 48), 200, 200)
    duplicates = find_duplicates(planted.faces.images)
    figures = {
        "faces": len(planted.faces),
        "photographs": len(read_photographs()),
        "duplicates": score_duplicates(planted, duplicates, real),
    }
    score = score_non_faces(planted.faces.images)
    figures["nonfaces"] = {
        "recall": float((score[planted.nonfaces] > 0).mean()),
        "share_of_others": float((np.delete(score, planted.nonfaces) > 0).mean()),
    }
    print(json.dumps(figures, indent=2))
    if arguments.labels:
        figures["labels"] = _score_label_errors(
            planted, duplicates, Path(arguments.out or tempfile.mkdtemp()), arguments.epochs
        )
    print(json.dumps(figures | {"seconds": round(time.perf_counter() - started)}, indent=2))


def _score_label_errors(planted: Planted, duplicates: Duplicates, folder: Path, epochs: int) -> dict[str, float]:
    from mien.evaluation.audit.label_errors import find_label_errors
    from mien.training.folds import assign_folds, predict_out_of_fold

    faces = planted.faces
    probabilities = predict_out_of_fold(faces, assign_folds(faces.labels, duplicates.groups, 3), folder, epochs=epochs)
    found = find_label_errors(probabilities, faces.labels)
    np.savez(folder / "probabilities.npz", probabilities=probabilities, labels=faces.labels, flipped=planted.flipped)
    return {
        "out_of_fold_accuracy": float((probabilities.argmax(axis=1) == faces.labels).mean()),
        "recall_in_top_5_percent": score_labels(planted, found.error_score),
        "flagged": float(found.is_flagged.mean()),
        "recall_of_flags": float(found.is_flagged[planted.flipped].mean()),
    }


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=0, help="size of a stratified sample; 0: all")
    parser.add_argument("--epochs", type=int, default=8, help="of each fold's network")
    parser.add_argument("--out", help="folder of the folds' networks")
    parser.add_argument(
        "--no-labels", dest="labels", action="store_false", help="leave flipped labels out: no training"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
