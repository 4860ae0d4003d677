"""What all layouts share: building a FaceSet row by row, with one policy for broken rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mien.core.errors import DataError
from mien.core.labels import canonical, ordered
from mien.core.types import UNLABELLED, FaceSet

SKIP_HINT = "mend the row, or leave broken rows out with --skip-bad"


class RowCollector:
    """Gathers pictures of one size with their labels; a broken row raises, or is counted where ``skip_bad`` is set."""

    def __init__(self, file: Path, size: int, skip_bad: bool) -> None:
        self.file, self.size, self.skip_bad = file, size, skip_bad
        self.pixels = bytearray()  # rows of size * size bytes, one after the other: no list of small arrays
        self.labels: list[str | None] = []  # class names; None where unknown
        self.names: list[str] = []
        self.split: list[str] = []
        self.votes: list[tuple[int, ...]] = []
        self.skipped: list[str] = []

    def add(
        self, pixels: bytes, label: str | None, name: str, split: str, votes: tuple[int, ...] | None = None
    ) -> None:
        self.pixels += pixels
        self.labels.append(label)
        self.names.append(name)
        self.split.append(split)
        if votes is not None:
            self.votes.append(votes)

    def bad(self, where: str, found: str, cure: str = SKIP_HINT) -> None:
        """A row or picture that cannot be used: ``where`` names it, ``found`` says what is wrong."""
        error = DataError(where, found, cure)
        if not self.skip_bad:
            raise error
        self.skipped.append(str(error))

    def face_set(self, classes: tuple[str, ...] | None = None) -> FaceSet:
        """The set; its classes are the given ones, or those that occur, in canonical order."""
        if not self.names:
            why = f"{len(self.skipped)} broken rows and no good one" if self.skipped else "no faces"
            raise DataError(self.file, f"holds {why}", "check that it is the right file and that it is whole")
        if classes is None:
            classes = ordered(name for name in self.labels if name is not None)
        position = {name: index for index, name in enumerate(classes)}
        images = np.frombuffer(self.pixels, np.uint8).reshape(-1, self.size, self.size)
        return FaceSet(
            images=images,
            labels=np.array([UNLABELLED if name is None else position[name] for name in self.labels], np.int64),
            classes=classes,
            names=np.array(self.names, dtype=str),
            split=np.array(self.split, dtype=str),
            votes=np.array(self.votes, np.uint8) if self.votes else None,
            skipped=tuple(self.skipped),
        )


def class_name(value: object, classes: tuple[str, ...]) -> str | None:
    """A label as files write it: a number into ``classes``, or a name. None if it is neither."""
    text = str(value).strip()
    if text.isdigit():
        return classes[int(text)] if int(text) < len(classes) else None
    name = canonical(text)
    return name if name in classes else None
