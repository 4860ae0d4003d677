"""Photographs without people: the backgrounds of the face detector's training scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from mien.analysis.detection.detectors import Detector, detect_faces
from mien.core.errors import DataError, MienError
from mien.core.pictures import read_picture
from mien.core.preprocessing import convert_to_gray
from mien.training.release.negatives import GROUPS, load_photographs

#: Photographs are kept at this longest side in pixels.
MAX_SIDE_PX = 1600

#: Endings of the files that are read from a folder of photographs.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")

#: Every so many photographs, one takes no part in the training and counts false detections.
HELD_OUT_EVERY = 5


def collect_photographs(
    folders: Sequence[Path], judge: Detector | None, echo: Callable[[str], None]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the photographs for the training and those held out: gray uint8 pictures of at most MAX_SIDE_PX.

    folders   folders of photographs without people, searched with their subfolders; scikit-image's are always added
    judge     a detector: photographs in which it finds a face are left out; None: nothing is checked
    echo      gets a line on what was read

    Raises DataError for a folder that does not exist or holds no photographs.
    """
    for folder in folders:
        if not folder.is_dir():
            raise DataError(folder, "is no folder", "name a folder of photographs without people")
    training, held_out = list(load_photographs(0)), list(load_photographs(1))
    names = len(GROUPS[0]) + len(GROUPS[1])
    rejected = unreadable = 0
    for folder in folders:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
        if not files:
            raise DataError(folder, "holds no photographs", f"name a folder with files {', '.join(ENDINGS)}")
        for path in files:
            try:
                picture = shrink_picture(read_picture(path))
            except MienError:
                unreadable += 1
                continue
            if judge is not None and len(detect_faces(judge, picture)):
                rejected += 1
                continue
            names += 1
            (held_out if names % HELD_OUT_EVERY == 0 else training).append(picture)
    checked = "not checked for faces" if judge is None else f"{rejected} with a face left out ({judge.name})"
    echo(f"{len(training)} photographs for training, {len(held_out)} held out; {checked}; {unreadable} unreadable")
    return [convert_to_gray(one) for one in training], [convert_to_gray(one) for one in held_out]


def shrink_picture(picture: np.ndarray) -> np.ndarray:
    """Scale a picture down to a longest side of MAX_SIDE_PX; smaller ones stay."""
    scale = MAX_SIDE_PX / max(picture.shape[:2])
    return picture if scale >= 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
