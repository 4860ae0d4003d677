"""Reading and writing data sets of facial expressions in all layouts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mien.core.errors import DataError
from mien.core.files import find_file_problem, walk_files
from mien.core.labels import FERPLUS_VOTES
from mien.core.types import FaceSet, concatenate_faces, split_role
from mien.data.layouts.csv_layout import has_pixel_columns, read_csv, read_votes, write_kaggle_csv
from mien.data.layouts.folder_layout import read_folder, write_folder
from mien.data.layouts.parquet_layout import read_parquet, write_parquet
from mien.data.layouts.rows import infer_split

PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})


def load_faces(
    paths: str | Path | Sequence[str | Path],
    *,
    ferplus: str | Path | None = None,
    size: int = 48,
    skip_bad: bool = False,
) -> FaceSet:
    """Read one data set, or several as one.

    Args:
        paths: a CSV of Kaggle or ICML, a Parquet file in the Hugging Face layout, a folder of such files, or a folder
            of pictures (``train/angry/*.png``). Several are joined; classes are matched by name.
        ferplus: the CSV of FER+ votes, joined row by row.
        size: side in pixels to which pictures are scaled. Rows of a CSV must have this size.
        skip_bad: skip broken rows and list them in ``skipped``, instead of raising.

    Raises:
        DataError: about the file and the row.
    """
    several = [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    faces = _load_several(several, size, skip_bad)
    if ferplus is None:
        return faces
    if any(path.is_dir() for path in several):
        raise DataError(ferplus, "cannot be joined with folders: their pictures are not in the order of its rows",
                        "join it with the CSV or Parquet file")  # fmt: skip
    return join_votes(faces, Path(ferplus))


def _load_several(paths: Sequence[Path], size: int, skip_bad: bool) -> FaceSet:
    """Load several sets and join them. If names are not unique, the paths of their files are put before them."""
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(paths):
        raise DataError("data", "the same file is named twice", "name each file once")
    for inner, outer in ((a, b) for a in resolved for b in resolved if b in a.parents):
        raise DataError("data", f"{inner} lies in {outer}, so that it would be read twice", "name one of the two")
    sets = [_load_one(path, size, skip_bad) for path in paths]
    names = np.concatenate([faces.names for faces in sets])
    if len(np.unique(names)) < len(names):
        common = Path(os.path.commonpath(resolved))
        prefixes = [path.relative_to(common).as_posix() for path in resolved]
        sets = [
            replace(faces, names=np.char.add(f"{prefix}/", faces.names))
            for prefix, faces in zip(prefixes, sets, strict=True)
        ]
    return concatenate_faces(sets)


def _load_one(path: Path, size: int, skip_bad: bool) -> FaceSet:
    if os.path.isdir(path):  # noqa: PTH112 - pathlib raises PermissionError here
        return _load_folder(path, size, skip_bad)
    if fault := find_file_problem(path, "a data set"):
        raise DataError(path, *fault)
    if path.suffix.lower() == ".csv":
        return read_csv(path, size=size, skip_bad=skip_bad)
    if path.suffix.lower() in PARQUET_SUFFIXES:
        return read_parquet(path, size=size, skip_bad=skip_bad)
    raise DataError(path, f"is neither a CSV, a Parquet file nor a folder (its ending is '{path.suffix}')",
                    "give one of these")  # fmt: skip


def _load_folder(path: Path, size: int, skip_bad: bool) -> FaceSet:
    """Load a folder of Parquet files (also in subfolders), of CSVs of pixels, or of pictures. Other CSVs are ignored."""
    shards = sorted(file for file in walk_files(path) if file.suffix.lower() in PARQUET_SUFFIXES)
    beside = (file for file in path.iterdir() if file.suffix.lower() == ".csv" and not file.name.startswith("."))
    tables = sorted(file for file in beside if has_pixel_columns(file))
    if not shards and not tables:
        return read_folder(path, size=size, skip_bad=skip_bad)
    parts_of_one = not (shards and tables) and (len(tables) < 2 or all(map(infer_split, tables)))
    if not parts_of_one:
        names = ", ".join(file.relative_to(path).as_posix() for file in [*shards, *tables])
        raise DataError(path, f"holds several tables ({names})", "name those that belong together")
    return _load_several(shards or tables, size, skip_bad)


def join_votes(faces: FaceSet, path: Path) -> FaceSet:
    """Join the votes of FER+ row by row in each split. Splits without pictures are ignored.

    Raises DataError if a split has different numbers of pictures and votes.
    """
    if faces.skipped:
        raise DataError(
            path,
            f"cannot be joined: {len(faces.skipped)} broken rows were left out of the pictures",
            "join it with the whole file",
        )
    if fault := find_file_problem(path, "a CSV of votes"):
        raise DataError(path, *fault)
    table, usages = read_votes(path)
    theirs = np.array([split_role(usage) for usage in usages])
    ours = np.array([split_role(split) for split in faces.split.tolist()])
    if not set(ours) <= set(theirs):  # one of the two has no splits: all rows are joined in order
        theirs, ours = np.full(len(theirs), "all"), np.full(len(ours), "all")
    votes = np.zeros((len(faces), table.shape[1]), np.uint8)
    for split in np.unique(ours):
        rows, places = np.flatnonzero(theirs == split), np.flatnonzero(ours == split)
        if len(rows) != len(places):
            raise DataError(
                path,
                f"has {len(rows):,} rows of votes for {len(places):,} pictures of split '{split}'",
                "give the two files of one release",
            )
        votes[places] = table[rows]
    _check_agreement(faces, votes, path)
    return replace(faces, votes=votes)


def _check_agreement(faces: FaceSet, votes: np.ndarray, path: Path) -> None:
    """Raise DataError if votes and labels disagree. In FER2013 two thirds agree; in a wrong order, about a fifth."""
    order = [FERPLUS_VOTES.index(name) if name in FERPLUS_VOTES else -1 for name in faces.classes]
    known = faces.is_labeled & (votes.sum(axis=1) > 0)
    agreement = (
        (votes[known].argmax(axis=1) == np.array([*order, -1])[faces.labels[known]]).mean() if known.any() else 1
    )
    if known.sum() >= 50 and agreement < 0.4:
        raise DataError(path, f"has votes that agree with the labels of only {agreement:.0%} of the pictures",
                        "give the pictures in the order of the votes: the two files of one release")  # fmt: skip


def save_faces(faces: FaceSet, path: str | Path) -> None:
    """Write a FaceSet: ``.csv`` in Kaggle's layout, ``.parquet`` in the Hugging Face layout, or else a folder of pictures."""
    path = Path(path)
    if path.suffix.lower() == ".csv":
        write_kaggle_csv(faces, path)
    elif path.suffix.lower() in PARQUET_SUFFIXES:
        write_parquet(faces, path)
    elif path.suffix:
        raise DataError(path, f"has the ending '{path.suffix}'", "write .csv, .parquet or a folder (no ending)")
    else:
        write_folder(faces, path)
