"""Shared by all layouts: names of columns and splits, and a FaceSet that is built row by row."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mien.core.errors import DataError
from mien.core.labels import normalize_label, sort_labels
from mien.core.types import SPLIT_ROLES, UNLABELED, FaceSet, split_role

#: Names of columns, in lower case, by their content.
PIXEL_COLUMNS = ("pixels", "pixel", "image")
PICTURE_COLUMNS = ("image", "img", "images", "picture")
LABEL_COLUMNS = ("emotion", "label", "labels", "class", "expression")
SPLIT_COLUMNS = ("usage", "split")

SKIP_HINT = "correct the row, or skip broken rows with `skip_bad=True`"
TRUNCATED_HINT = "get the whole file again, or skip broken rows with `skip_bad=True`"

#: Maximum digits of a numeric label.
MAX_LABEL_DIGITS = 9

#: The split names of FER2013, by their lower case.
_OFFICIAL = {"training": "Training", "publictest": "PublicTest", "privatetest": "PrivateTest"}


def find_column(columns: Iterable[str], names: tuple[str, ...]) -> str | None:
    """Return the column with the first of ``names`` that occurs, ignoring case and surrounding blanks; None without any."""
    by_name = {column.strip().lower(): column for column in columns}
    return next((by_name[name] for name in names if name in by_name), None)


def infer_split(path: Path) -> str:
    """Infer the split from a word of a file's name, or from a folder's whole name; "" if there is none.

    Examples: ``train.csv``, ``fer2013-publictest.parquet``, ``test-00000-of-00001.parquet``. For a numbered part such as
    ``train/0000.parquet``, the name of the folder is used.
    """
    words = [path.name.lower()]
    if path.suffix:
        words = path.stem.lower().replace("_", "-").replace(".", "-").split("-")
    named = [word for word in words if split_role(word) in SPLIT_ROLES]
    if len({split_role(word) for word in named}) == 1:
        return _OFFICIAL.get(named[0], named[0])
    parent = path.resolve().parent.name
    is_part = bool(path.suffix) and re.fullmatch(r"(part|data|shard)?[-_]?\d+([-_]of[-_]\d+)?", path.stem.lower())
    return parent if is_part and split_role(parent) in SPLIT_ROLES else ""


def parse_label(value: object, classes: tuple[str, ...]) -> str | None:
    """Return the class of a label in a file: a name, or an index into ``classes``. None if it is neither."""
    text = str(value).strip()
    name = normalize_label(text)
    if name in classes:
        return name
    number = text.removesuffix(".0")  # tables with missing values store integers as floats
    # Longer numbers are no class, and Python refuses to parse more than 4,300 digits.
    is_number = number.isascii() and number.isdigit() and len(number) <= MAX_LABEL_DIGITS
    return classes[int(number)] if is_number and int(number) < len(classes) else None


class RowCollector:
    """Collects pictures of one size with their labels. A broken row raises DataError, or is skipped with ``skip_bad``."""

    def __init__(self, file: Path, size: int, skip_bad: bool) -> None:
        self.file, self.size, self.skip_bad = file, size, skip_bad
        self.pixels = bytearray()  # size * size bytes for each row; a list of small arrays needs more memory
        self.labels: list[str | None] = []  # class names; None if unknown
        self.names: list[str] = []
        self.numbers: list[str] = []  # file#row: used if the names are not unique
        self.split: list[str] = []
        self.votes: list[tuple[int, ...]] = []
        self.skipped: list[str] = []

    def add_row(self, pixels: bytes, label: str | None, split: str, number: str, name: str | None = None,
            votes: tuple[int, ...] | None = None) -> None:  # fmt: skip
        """Add a face: size * size gray bytes, its class name (None: unknown), split, ``file#row``, name and ten votes."""
        self.pixels += pixels
        self.labels.append(label)
        self.split.append(split)
        self.numbers.append(number)
        self.names.append(name or number)
        if votes is not None:
            self.votes.append(votes)

    def reject_row(self, where: str, problem: str, hint: str = SKIP_HINT) -> None:
        """Raise DataError about a broken row or picture, or skip it. ``where`` names it, ``found`` is the problem."""
        error = DataError(where, problem, hint)
        if not self.skip_bad:
            raise error
        self.skipped.append(str(error))

    def build_face_set(self, classes: tuple[str, ...] | None = None) -> FaceSet:
        """Build the FaceSet. Its classes are the given ones, or those that occur, in the order of `sort_labels`."""
        if not self.names:
            why = f"{len(self.skipped)} broken rows and no good one" if self.skipped else "no faces"
            raise DataError(self.file, f"holds {why}", "check that it is the right file and that it is whole")
        if classes is None:
            classes = sort_labels(name for name in self.labels if name is not None)
        position = {name: index for index, name in enumerate(classes)}
        names = self.names if len(set(self.names)) == len(self.names) else self.numbers
        return FaceSet(
            images=np.frombuffer(self.pixels, np.uint8).reshape(-1, self.size, self.size),
            labels=np.array([UNLABELED if name is None else position[name] for name in self.labels], np.int64),
            classes=classes,
            names=np.array(names, dtype=str),
            split=np.array(self.split, dtype=str),
            votes=np.array(self.votes, np.uint8) if self.votes else None,
            skipped=tuple(self.skipped),
        )
