"""Crop the faces of photographs into a folder of pictures that can be read as a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mien.analysis.detection.detectors import Detections, Detector, detect_faces, keep_largest
from mien.analysis.detection.framing import crop_faces
from mien.analysis.media.inputs import Input, list_inputs
from mien.analysis.output.writers import write_picture
from mien.core.csv_cells import CsvWriter
from mien.core.errors import MediaError, MienError
from mien.core.files import escape_file_name, make_folder, replace_folder
from mien.core.pictures import read_picture

#: The table of the crops: source, box and detection score of each.
CROPS_TABLE = "crops.csv"


@dataclass
class CropSummary:
    """Counts of a run of ``crop_pictures``.

    pictures        number of pictures that were read
    faces           number of crops that were written
    without_faces   names of the pictures without a detected face
    videos          number of videos in the folders, which are ignored
    failures        errors of the pictures that could not be read
    """

    pictures: int = 0
    faces: int = 0
    without_faces: list[str] = field(default_factory=list)
    videos: int = 0
    failures: list[MienError] = field(default_factory=list)

    def add(self, name: str, faces: int) -> None:
        """Count a picture and its faces."""
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
    """Write the faces of pictures and of folders of pictures as RGB PNG files of ``size`` x ``size`` into ``out``.

    Crops have the same framing as in an analysis, so that a network trains on the crops that it will classify. The folder
    structure is kept: ``train/angry/a.jpg`` becomes ``train/angry/a.png``. Further faces become ``a-face2.png``, in order of
    decreasing size. The output folder appears when it is complete.

    people        keep only this many faces of a picture, the largest; 0: all
    on_progress   called with (number of processed pictures, number of pictures)

    A picture that cannot be read, and a video that is named itself, become ``failures``. Videos in folders are counted.
    Raises OutputError if the folder is neither new nor empty.
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
                detections = _sort_by_size(detect_faces(detector, picture), people)
                crops = crop_faces(picture, detections.boxes_xyxy, detector.framing, size)
                names = _write_crops(crops, staged, item.stem, used)
                for path, box, score in zip(names, detections.boxes_xyxy, detections.scores, strict=True):
                    rows.append([path, item.name, *(f"{value:.1f}" for value in box), f"{score:.3f}"])
                done.add(item.name, len(crops))
            on_progress(number, len(pictures))
        if rows:
            with (staged / CROPS_TABLE).open("w", encoding="utf-8", newline="") as file:
                CsvWriter(file).writerows([["path", "source", "x1", "y1", "x2", "y2", "score"], *rows])
    return done


def _read_input(item: Input) -> np.ndarray:
    if item.is_video:
        raise MediaError(item.name, "is a video", "take stills of it with 'mien moments'")
    return read_picture(item.path)


def _sort_by_size(detections: Detections, people: int) -> Detections:
    detections = keep_largest(detections, people)
    order = (-(detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]).prod(axis=1)).argsort(kind="stable")
    return Detections(detections.boxes_xyxy[order], detections.scores[order])


def _write_crops(crops: np.ndarray, out: Path, stem: Path, used: set[str]) -> list[str]:
    """Write the crops of one picture → their paths below ``out``. ``used``: lower-case names that are taken."""
    paths, number = [], 1
    for crop in crops:
        target = out / stem.with_name(stem.name + (f"-face{number}" if number > 1 else "") + ".png")
        while str(target).lower() in used:  # a picture may have the name of another one's second face
            number += 1
            target = target.with_name(f"{stem.name}-face{number}.png")
        used.add(str(target).lower())
        number += 1
        make_folder(target.parent)
        write_picture(crop, target)
        paths.append(escape_file_name(target.relative_to(out).as_posix()))
    return paths
