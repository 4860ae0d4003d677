"""FER2013 as CSV: Kaggle's ``emotion,pixels,Usage``, the ICML release ``emotion, Usage, pixels``, and the votes of FER+."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.core.errors import DataError
from mien.core.files import replace_file
from mien.core.labels import FER2013, FERPLUS_COLUMNS, normalize_label
from mien.core.types import FaceSet
from mien.data.layouts.rows import (
    LABEL_COLUMNS,
    PIXEL_COLUMNS,
    SKIP_HINT,
    SPLIT_COLUMNS,
    TRUNCATED_HINT,
    RowCollector,
    find_column,
    infer_split,
    parse_label,
)

#: "0".."255" → the byte.
_BYTE_OF = {str(value): value for value in range(256)}

#: The line number at the end of a row, and the fields of the row.
_Row = tuple[int, list[str]]

#: The decimal part of an integer that is written as a float: ``70.0``, ``70.``.
_WHOLE = re.compile(r"\.0*$")

#: Columns of one pixel each: ``pixel0``, ``pixel_0``, ``px 17``, ``p17`` or a number alone.
_PIXEL_COLUMN = re.compile(r"(?:pixels?|px|p)?[ _.-]?(\d{1,6})$", re.IGNORECASE)

#: The smallest picture: 8 x 8.
MIN_PIXELS = 64

#: Characters of a wrong value in an error.
MAX_SHOWN_CHARACTERS = 40

#: Maximum characters of a field: the pixels of a 1,000 x 1,000 picture.
_FIELD_LIMIT = 4_000_000


def read_csv(path: Path, *, size: int = 48, skip_bad: bool = False) -> FaceSet:
    """Read a CSV of pixels. Rows are named ``file#row``, counted from 0 as in pandas.

    Labels are the numbers of FER2013, or names if the first complete row has a name. Unknown names become classes. A file
    without a label column is unlabeled. Without a split column, the split is inferred from the file's name (``train.csv``).
    """
    with _open_table(path) as table:
        label, split = (table.find_column(names) for names in (LABEL_COLUMNS, SPLIT_COLUMNS))
        pixels = table.find_pixel_columns()
        if not pixels:
            raise DataError(path, f"has no column 'pixels' (found: {_list_columns(table.columns)})",
                            "give the CSV with one row of pixels a face, in one column or in a column each")  # fmt: skip
        rows, split_of_file = RowCollector(path, size, skip_bad), infer_split(path)
        seen: set[str] = set()
        in_words: bool | None = None
        for number, ((line, row), is_last) in enumerate(_mark_last(table.rows)):
            where = f"{path} row {number} (line {line})"
            row = _join_pixel_fields(row, len(table.columns), pixels)
            if len(row) != len(table.columns):
                if len(row) < len(table.columns):
                    problem = f"has {len(row)} of {len(table.columns)} fields; the file may be cut off here"
                    rows.reject_row(where, problem, TRUNCATED_HINT)
                else:
                    rows.reject_row(where, f"has {len(row)} fields, and the first line {len(table.columns)}", SKIP_HINT)
                continue
            name = None if label is None else parse_label(row[label], FER2013)
            if in_words is None and label is not None:
                in_words = _has_letters(row[label])  # a number in the first row means the numbers of FER2013
            if label is not None and name is None and in_words and _has_letters(row[label]):
                name = normalize_label(row[label])
            if label is not None and name is None:
                known = "known: 0..6 for FER2013's expressions, or names"
                rows.reject_row(where, f"has the unknown label {row[label][:MAX_SHOWN_CHARACTERS]!r} ({known})")
                continue
            usage = (row[split].strip() if split is not None else "") or split_of_file
            if is_last and usage not in seen and any(known.startswith(usage) for known in seen):
                rows.reject_row(
                    where,
                    f"ends in {usage!r}, the beginning of a split's name; the file may be cut off here",
                    TRUNCATED_HINT,
                )
                continue
            values = _parse_pixels(" ".join(row[place] for place in pixels), rows, where)
            if values is not None:
                seen.add(usage)
                rows.add_row(values, name, usage, f"{path.name}#{number}")
    foreign = any(name is not None and name not in FER2013 for name in rows.labels)
    return rows.build_face_set(None if foreign else FER2013)


def _has_letters(text: str) -> bool:
    return any(letter.isalpha() for letter in text)


def _list_columns(columns: list[str], most: int = 8, longest: int = 30) -> str:
    """Return the first names, shortened: the first line may contain pixels instead of names."""
    short = [name if len(name) <= longest else f"{name[:longest]}..." for name in columns[:most]]
    more = [f"and {len(columns) - most:,} more"] if len(columns) > most else []
    return ", ".join(short + more) or "nothing"


def _mark_last(rows: Iterator[_Row]) -> Iterator[tuple[_Row, bool]]:
    """Yield (row, whether it is the last). Only the last row can show that a file is cut off."""
    row = next(rows, None)
    while row is not None:
        following = next(rows, None)
        yield row, following is None
        row = following


def _parse_pixels(text: str, rows: RowCollector, where: str) -> bytes | None:
    """Parse ``"70 80 82 ..."`` to bytes. Return None if the row was rejected."""
    if not text[:12].replace(" ", "").isdigit():  # a list as Python writes it, or numbers with commas
        text = text.strip("[] ").replace(",", " ").replace(";", " ")
    values = _parse_well_formed(text, rows.size**2)
    if values is not None:
        return values
    words = text.split()
    if len(words) != rows.size**2:
        expected = f"{rows.size} x {rows.size} = {rows.size**2:,}"
        side = math.isqrt(len(words))
        if side**2 == len(words):
            hint = (
                f"rows of a CSV are not scaled: read it with `size={side}` (in training `input.size={side}`), "
                f"or convert it to Parquet with `size={side}`: pictures of Parquet files are scaled"
            )
            rows.reject_row(where, f"has {len(words):,} pixels, not {expected}", hint)
        else:
            rows.reject_row(where, f"has {len(words):,} pixels, not {expected}; it may be cut off", TRUNCATED_HINT)
        return None
    try:
        return bytes(_BYTE_OF[_WHOLE.sub("", word)] for word in words)
    except KeyError as error:
        rows.reject_row(
            where, f"has the pixel {error.args[0][:MAX_SHOWN_CHARACTERS]!r}, which is not a whole number in 0..255"
        )
        return None


def _join_pixel_fields(row: list[str], count: int, pixels: list[int]) -> list[str]:
    """Join the pixels of a row to one field, if commas without quotes made each pixel a field."""
    extra = len(row) - count
    if extra < MIN_PIXELS - 1 or len(pixels) != 1:
        return row
    begin, end = pixels[0], pixels[0] + extra + 1
    return [*row[:begin], " ".join(row[begin:end]), *row[end:]]


def _parse_well_formed(text: str, count: int) -> bytes | None:
    """Parse ``count`` numbers in 0..255, separated by single blanks, to bytes. Return None for any other text.

    All numbers are read at once, backwards from the blank behind each: several times as fast as word by word.
    """
    digits = np.frombuffer(b"    " + text.encode("ascii", "replace") + b" ", np.uint8) - ord(
        "0"
    )  # other characters are > 9
    blank = (ord(" ") - ord("0")) % 256
    ends = 4 + np.flatnonzero(digits[4:] == blank)
    if len(ends) != count or np.count_nonzero(digits <= 9) + count + 4 != len(digits):
        return None
    ones, tens, hundreds, thousands = (digits[ends - place] for place in (1, 2, 3, 4))
    two = tens <= 9
    three = two & (hundreds <= 9)
    if ones.max() > 9 or (three & (thousands <= 9)).any():
        return None
    values = ones + 10 * tens.astype(np.uint16) * two + 100 * hundreds.astype(np.uint16) * three
    return values.astype(np.uint8).tobytes() if values.max() <= 255 else None


def read_votes(path: Path) -> tuple[np.ndarray, list[str]]:
    """Read the votes of FER+ (``Usage,Image name`` and ten columns): uint8 (N, 10), and the split of each row."""
    with _open_table(path) as table:
        columns = {name: table.find_column((name.lower(),)) for name in FERPLUS_COLUMNS}
        places = [place for place in columns.values() if place is not None]
        if absent := [name for name, place in columns.items() if place is None]:
            raise DataError(path, f"has no column {', '.join(absent)}", "give FER+'s fer2013new.csv")
        usage = table.find_column(SPLIT_COLUMNS)
        votes, splits = [], []
        for number, (line, row) in enumerate(table.rows):
            try:
                votes.append(bytes(int(row[place]) for place in places))
                splits.append(row[usage].strip() if usage is not None else "")
            except (ValueError, IndexError) as error:
                where = f"{path} row {number} (line {line})"
                raise DataError(where, "does not hold ten vote counts", "get the whole file again") from error
    if not votes:
        raise DataError(path, "holds no votes", "get the whole file again")
    return np.frombuffer(b"".join(votes), np.uint8).reshape(-1, len(FERPLUS_COLUMNS)), splits


def write_kaggle_csv(faces: FaceSet, path: Path) -> None:
    """Write ``emotion,pixels,Usage`` as in the competition of 2013. For unlabeled faces, the label column is omitted."""
    foreign = [name for name in faces.classes if name not in FER2013]
    elsewhere = "write a .parquet file or a folder"
    if foreign:
        raise DataError(
            path, f"cannot hold the classes {', '.join(foreign)}: its labels are FER2013's numbers", elsewhere
        )
    if faces.images.shape[1] != faces.images.shape[2]:
        raise DataError(path, f"cannot hold pictures of {faces.images.shape[1:]} pixels", elsewhere)
    labeled = bool(faces.is_labeled.all())
    if not labeled and faces.is_labeled.any():
        raise DataError(path, "cannot hold labeled and unlabeled faces together", elsewhere)
    labels = faces.reindex_classes(FER2013).labels if labeled else faces.labels
    with replace_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["emotion", "pixels", "Usage"] if labeled else ["pixels", "Usage"])
        for image, label, split in zip(faces.images, labels, faces.split, strict=True):
            text = " ".join(map(str, image.ravel().tolist()))
            writer.writerow([label, text, split] if labeled else [text, split])


def has_pixel_columns(path: Path) -> bool:
    """Return whether a CSV contains pixels. A CSV in a folder of pictures may be a list of their names."""
    try:
        with _open_table(path) as table:
            wide = table.find_pixel_columns()  # the columns of an embedding may be numbers too
            return table.find_column(PIXEL_COLUMNS[:2]) is not None or (
                len(wide) > 1
                and math.isqrt(len(wide)) ** 2 == len(wide)
                and (table.find_column(LABEL_COLUMNS) is not None or table.columns[wide[0]][:1].isalpha())
            )
    except DataError:
        return False


@dataclass(frozen=True)
class _Table:
    """An open CSV: its column names, and its rows with the line number at the end of each."""

    columns: list[str]
    rows: Iterator[_Row]

    def find_column(self, names: tuple[str, ...]) -> int | None:
        """Return the place of the column with the first of ``names`` that occurs; None without any."""
        column = find_column(self.columns, names)
        return None if column is None else self.columns.index(column)

    def find_pixel_columns(self) -> list[int]:
        """Return the places of the pixel columns: one for all pixels, or one for each in the order of their numbers; or []."""
        if (one := self.find_column(PIXEL_COLUMNS)) is not None:
            return [one]
        numbered = [(int(match[1]), place) for place, name in enumerate(self.columns)
                    if (match := _PIXEL_COLUMN.match(name))]  # fmt: skip
        distinct = len({number for number, _ in numbered}) == len(numbered)  # else these are pixels, not column names
        return [place for _, place in sorted(numbered)] if distinct and len(numbered) >= MIN_PIXELS else []


@contextmanager
def _open_table(path: Path) -> Iterator[_Table]:
    """Open a CSV. Raise DataError if it is not a table of UTF-8 text."""
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            separator = max(",;\t", key=first.count)  # spreadsheets may use another separator than the comma
            reader = csv.reader(file, delimiter=separator)
            rows = ((reader.line_num, row) for row in reader if row)
            _, columns = next(rows, (0, []))
            yield _Table([column.strip() for column in columns], rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"is not a CSV of text in UTF-8 ({error})", "save it as that, or get it again") from error
