"""Photographs → the faces in them as a folder of pictures, which a data set is read from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mien.analysis.detection.detectors import Detections, Detector, crop_faces, detect_faces, keep_largest
from mien.analysis.media.inputs import Input, list_inputs
from mien.analysis.output.writers import write_picture
from mien.core.csv_cells import CsvWriter
from mien.core.errors import MediaError, MienError
from mien.core.files import escape_file_name, make_folder, replace_folder
from mien.core.pictures import read_picture

#: The table beside the crops: where each was cut out, by which score of the detector.
CROPS_TABLE = "crops.csv"


@dataclass
class CropSummary:
    """What became of the pictures.

    pictures   how many were read
    faces      how many crops were written
    without    names of those in which no face was found
    videos     how many lay in the folders beside them
    failures   what could not be read, and why
    """

    pictures: int = 0
    faces: int = 0
    without_faces: list[str] = field(default_factory=list)
    videos: int = 0
    failures: list[MienError] = field(default_factory=list)

    def add(self, name: str, faces: int) -> None:
        """A picture that was read, and how many faces were in it."""
        self.pictures += 1
        self.faces += faces
        if not faces:
            self.without_faces.append(name)


def crop_pictures(
    paths: Sequence[Path],
    out: Path,
    detector: Detector,
    *,
    size: int = 48,
    people: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> CropSummary:
    """Write the faces of pictures and of folders of pictures as RGB PNG files of ``size`` × ``size`` into ``out``.

    A crop is framed as `mien analyze` frames what it reads, so that a network learns faces as it will be given them. The tree
    below a folder stays: ``train/angry/a.jpg`` becomes ``train/angry/a.png``, and of several faces the others
    ``a-face2.png``, largest first. ``people`` of the largest are kept, 0: all. ``each`` is told how many of how many are done.

    The folder appears when it is complete. Raises OutputError where it is neither new nor empty. A picture that cannot be read is in ``failures``, and so is a video
    that is named; those in folders are counted.
    """
    done = CropSummary()
    rows: list[list[str]] = []
    used: set[str] = set()
    with replace_folder(out) as staged:
        items = list_inputs(paths, out)
        pictures = [item for item in items if isinstance(item, MienError) or item.path in paths or not item.is_video]
        done.videos = len(items) - len(pictures)
        for number, item in enumerate(pictures, start=1):
            try:
                if isinstance(item, MienError):
                    raise item
                picture = _read_input(item)
            except MienError as error:
                done.failures.append(error)
            else:
                found = _sort_by_size(detect_faces(detector, picture), people)
                crops = crop_faces(picture, found.boxes_xyxy, detector.framing, size)
                names = _write_crops(crops, staged, item.stem, used)
                for path, box, score in zip(names, found.boxes_xyxy, found.scores, strict=True):
                    rows.append([path, item.name, *(f"{value:.1f}" for value in box), f"{score:.3f}"])
                done.add(item.name, len(crops))
            on_progress(number, len(pictures))
        if rows:
            with (staged / CROPS_TABLE).open("w", encoding="utf-8", newline="") as file:
                CsvWriter(file).writerows([["path", "source", "x1", "y1", "x2", "y2", "score"], *rows])
    return done


def _read_input(item: Input) -> np.ndarray:
    if item.is_video:
        raise MediaError(item.name, "is a video", "take stills of it with 'mien moments --plain'")
    return read_picture(item.path)


def _sort_by_size(found: Detections, people: int) -> Detections:
    found = keep_largest(found, people)
    order = (-(found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]).prod(axis=1)).argsort(kind="stable")
    return Detections(found.boxes_xyxy[order], found.scores[order])


def _write_crops(crops: np.ndarray, out: Path, stem: Path, used: set[str]) -> list[str]:
    """The crops of one picture as files; their paths below ``out``. ``used``: names, without case, that are taken."""
    paths, number = [], 1
    for crop in crops:
        target = out / stem.with_name(stem.name + (f"-face{number}" if number > 1 else "") + ".png")
        while str(target).lower() in used:  # a picture may be called what another's second face is
            number += 1
            target = target.with_name(f"{stem.name}-face{number}.png")
        used.add(str(target).lower())
        number += 1
        make_folder(target.parent)
        write_picture(crop, target)
        paths.append(escape_file_name(target.relative_to(out).as_posix()))
    return paths
