"""Splits of a FaceSet: stratified fractions, exact sizes, class subsets. A seed always selects the same rows."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mien.core.csv_cells import CsvWriter, unescape_formula
from mien.core.errors import DataError
from mien.core.files import find_file_problem, replace_file
from mien.core.labels import normalize_label
from mien.core.types import OTHER, UNLABELED, FaceSet, split_role


def sample_stratified(labels: np.ndarray, sizes: Sequence[int], seed: int) -> list[np.ndarray]:
    """Draw disjoint stratified parts of exactly the given sizes, each int64 (size,) ascending row numbers.

    Each part has the class distribution of labels int (N,), up to rounding by the largest remainder. The label -1 is a class
    of its own. Raises DataError if the sizes exceed N.
    """
    _check_sizes(sizes, len(labels))
    rng = np.random.default_rng(seed)
    pools = [rng.permutation(np.flatnonzero(labels == value)) for value in np.unique(labels)]
    parts = []
    for size in sizes:
        left = np.array([len(pool) for pool in pools])
        share = size * left / max(left.sum(), 1)
        take = np.floor(share).astype(int)
        remainder_first = np.argsort(-(share - take), kind="stable")
        take[remainder_first[: size - take.sum()]] += 1
        parts.append(np.sort(np.concatenate([pool[:n] for pool, n in zip(pools, take, strict=True)])))
        pools = [pool[n:] for pool, n in zip(pools, take, strict=True)]
    return parts


def split_halves(labels: np.ndarray, seed: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Split labels int (N,) into stratified halves. Returns the rows as (mine, other) and (other, mine), for cross-fitting."""
    one, other = sample_stratified(labels, [len(labels) // 2, len(labels) - len(labels) // 2], seed)
    return (one, other), (other, one)


def _check_sizes(sizes: Sequence[int], count: int) -> None:
    listed = ", ".join(map(str, sizes))
    if min(sizes, default=0) < 0:
        raise DataError("split", f"sizes {listed}: a part cannot have fewer than 0 faces", "give positive numbers")
    if sum(sizes) > count:
        raise DataError("split", f"sizes {listed} add up to {sum(sizes):,} of {count:,} faces", "ask for fewer")


def sizes_from_fractions(count: int, fractions: Sequence[float]) -> list[int]:
    """Convert fractions of ``count`` to sizes. Fractions that add up to 1 use every row."""
    if not (min(fractions) > 0 and sum(fractions) <= 1 + 1e-9):  # so that NaN fails too
        raise DataError(
            "split", f"fractions {', '.join(map(str, fractions))}", "give positive numbers that add up to at most 1"
        )
    ends = np.round(np.cumsum(fractions) * count).astype(int)
    sizes = np.diff(ends, prepend=0).tolist()
    if count and min(sizes) == 0:
        raise DataError(
            "split",
            f"fractions {', '.join(map(str, fractions))} of {count:,} faces leave a part empty",
            "make it larger",
        )
    return sizes


def hold_out_faces(faces: FaceSet, fraction: float, seed: int) -> tuple[FaceSet, FaceSet]:
    """Hold out a stratified fraction of the rows. Returns (rest, held out)."""
    size = max(1, round(len(faces) * fraction))
    (held,) = sample_stratified(faces.labels, [size], seed)
    mask = np.zeros(len(faces), bool)
    mask[held] = True
    return faces.take(~mask), faces.take(mask)


def split_stratified(faces: FaceSet, names: Sequence[str], sizes: Sequence[int], seed: int) -> FaceSet:
    """Divide the faces into stratified splits of exact sizes. The remaining rows are dropped."""
    parts = sample_stratified(faces.labels, sizes, seed)
    order = np.concatenate(parts)
    split = np.repeat(np.asarray(names, dtype=str), sizes)
    return replace(faces.take(order), split=split)


def split_in_order(faces: FaceSet, names: Sequence[str], sizes: Sequence[int]) -> FaceSet:
    """Divide the faces in their order into splits of exact sizes. The remaining rows are dropped."""
    _check_sizes(sizes, len(faces))
    return replace(faces.take(np.arange(sum(sizes))), split=np.repeat(np.asarray(names, dtype=str), sizes))


def split_by_class_counts(faces: FaceSet, parts: dict[str, dict[str, int]], seed: int) -> FaceSet:
    """Draw disjoint splits with given counts of each class: ``{"train": {"angry": 500, ...}, "test": {...}}``.

    The result has the named classes in the order of ``faces.classes``. The remaining rows are dropped.
    Raises DataError if a class has too few faces.
    """
    labels = {normalize_label(name) for counts in parts.values() for name in counts}
    faces = filter_classes(
        faces, [name for name in faces.classes if name in labels] + sorted(labels - set(faces.classes))
    )
    rng = np.random.default_rng(seed)
    pools = {name: rng.permutation(np.flatnonzero(faces.labels == k)) for k, name in enumerate(faces.classes)}
    chosen, split = [], []
    for part, counts in parts.items():
        rows = []
        for name, count in counts.items():
            name = normalize_label(name)
            if count > len(pools[name]):
                raise DataError("split", f"'{part}' asks for {count:,} faces of {name}, {len(pools[name]):,} are left",
                                "ask for fewer")  # fmt: skip
            rows.append(pools[name][:count])
            pools[name] = pools[name][count:]
        chosen.append(np.sort(np.concatenate(rows)))
        split += [part] * len(chosen[-1])
    return replace(faces.take(np.concatenate(chosen)), split=np.array(split))


def remove_labels(faces: FaceSet, labeled_share: float, seed: int) -> FaceSet:
    """Remove labels and votes from all but a stratified share ``labeled_share`` of the labeled faces."""
    known = np.flatnonzero(faces.is_labeled)
    (chosen,) = sample_stratified(faces.labels[known], [round(labeled_share * len(known))], seed)
    labels = np.full(len(faces), UNLABELED, np.int64)
    labels[known[chosen]] = faces.labels[known[chosen]]
    votes = None if faces.votes is None else np.where((labels == faces.labels)[:, None], faces.votes, np.uint8(0))
    return replace(faces, labels=labels, votes=votes)


def remove_training_labels(faces: FaceSet, labeled_share: float, seed: int) -> FaceSet:
    """Remove labels and votes from all but a stratified share of the training faces (of all faces without splits).

    Raises DataError if there is no training split, if it has no labels, or if a class would lose all its labels.
    """
    training = np.array([split_role(name) == "train" for name in faces.split.tolist()], bool)
    if faces.splits == ("",):
        training[:] = True
    if not training.any():
        names = ", ".join(name or "(none)" for name in faces.splits)
        raise DataError(
            "`keep_labels`",
            f"finds no training split; the data has: {names}",
            "divide it anew, with a part that `names` calls 'train', or give the training faces",
        )
    part = faces.take(training)
    if not part.is_labeled.any():
        raise DataError("`keep_labels`", "finds no label among the training faces", "give labeled faces")
    bare = remove_labels(part, labeled_share, seed)
    lost = [
        name
        for name, had, has in zip(faces.classes, part.class_counts(), bare.class_counts(), strict=True)
        if had and not has
    ]
    if lost:
        raise DataError(
            "`keep_labels`", f"{labeled_share:g} leaves no label of {', '.join(lost)}", "keep a larger share"
        )
    labels, votes = faces.labels.copy(), None if faces.votes is None else faces.votes.copy()
    labels[training] = bare.labels
    if votes is not None:
        votes[training] = bare.votes
    return replace(faces, labels=labels, votes=votes)


def filter_classes(faces: FaceSet, names: Sequence[str]) -> FaceSet:
    """Return the faces of these classes, with labels in this order."""
    names = tuple(normalize_label(name) for name in names)
    unknown = [name for name in names if name not in faces.classes]
    if unknown:
        raise DataError(
            "classes",
            f"{', '.join(unknown)} does not occur; the data has {', '.join(faces.classes)}",
            "name some of these",
        )
    if len(set(names)) != len(names):
        raise DataError("classes", "a class is named twice", "name each once")
    keep = np.isin(faces.labels, [faces.classes.index(name) for name in names])
    return faces.take(keep).reindex_classes(names)


def make_one_vs_rest(faces: FaceSet, name: str) -> FaceSet:
    """Return the faces with two classes: OTHER, and the named one."""
    (name,) = filter_classes(faces, [name]).classes
    if name == OTHER:
        raise DataError("data.one_vs_rest", f"'{OTHER}' is the name of all the rest", "rename the class")
    labels = np.where(faces.is_labeled, faces.labels == faces.classes.index(name), UNLABELED).astype(np.int64)
    return replace(faces, labels=labels, classes=(OTHER, name))


#: Faces of FER2013's official splits, in the order of its file.
OFFICIAL_SIZES = {"Training": 28_709, "PublicTest": 3_589, "PrivateTest": 3_589}


def assign_official_splits(faces: FaceSet) -> FaceSet:
    """Assign the splits of FER2013 by the order of its rows, unless the file has splits."""
    if len(faces.splits) > 1:
        return faces
    sizes = list(OFFICIAL_SIZES.values())
    for parts in (3, 2):  # of one name for all, which is no division
        if len(faces) == sum(sizes[:parts]):
            return replace(faces, split=np.repeat(np.array(list(OFFICIAL_SIZES)[:parts]), sizes[:parts]))
    if faces.splits != ("",):
        return faces
    raise DataError(
        "`official`",
        f"needs all of FER2013 (35,887 rows, or 32,298 without PrivateTest), not {len(faces):,}",
        "divide it with `fractions` or `sizes`",
    )


def read_names(path: Path) -> set[str]:
    """Read the column ``path`` of a CSV: names of rows, as in the predictions CSV."""
    if fault := find_file_problem(path, "a CSV of names"):
        raise DataError(path, *fault)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if "path" not in (reader.fieldnames or ()):
                raise DataError(
                    path,
                    f"has no column 'path' (found: {', '.join(reader.fieldnames or ()) or 'nothing'})",
                    "write one row for each picture to leave out",
                )
            names = set()
            for row in reader:
                if row["path"] is None:
                    where = f"{path} line {reader.line_num}"
                    raise DataError(where, "has no field for the column 'path'", "correct the row")
                names.add(unescape_formula(row["path"]))
            return names - {""}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            path, f"is not a CSV of text ({error})", "write one row for each picture to leave out"
        ) from error


def write_names(faces: FaceSet, path: Path) -> None:
    """Write the names of the faces as a CSV with the column ``path``, which `read_names` reads, and a checksum of each."""
    with replace_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = (
            [name, f"{check:08x}"] for name, check in zip(faces.names, compute_checksums(faces.images), strict=True)
        )
        CsvWriter(file).writerows([["path", "crc32"], *rows])


def select_written(faces: FaceSet, path: Path) -> FaceSet:
    """Return the faces that `write_names` wrote to the file: equal name and equal checksum."""
    with path.open(newline="", encoding="utf-8") as file:
        known = {unescape_formula(row["path"]): row.get("crc32") for row in csv.DictReader(file)}
    ours = faces.select_names(set(known))
    same = [
        known[name] in (None, f"{check:08x}")
        for name, check in zip(ours.names, compute_checksums(ours.images), strict=True)
    ]
    return ours.take(np.array(same, bool))


def read_checksums(path: Path) -> np.ndarray:
    """Read the checksums that `write_names` wrote, uint32 (N,); empty for older files without checksums."""
    with path.open(newline="", encoding="utf-8") as file:
        return np.array([int(row["crc32"], 16) for row in csv.DictReader(file) if row.get("crc32")], np.uint32)


def compute_checksums(images: np.ndarray) -> np.ndarray:
    """Compute the CRC-32 of each picture of uint8 images (N, H, W); uint32 (N,)."""
    return np.array([zlib.crc32(np.ascontiguousarray(image).data) for image in images], np.uint32)


def exclude_faces(faces: FaceSet, names: set[str]) -> FaceSet:
    """Return the faces without the named ones. Raise DataError if a name does not occur in the data."""
    absent = names - set(faces.names.tolist())
    if absent:
        raise DataError(
            "`exclude`",
            f"names {len(absent):,} rows that the data does not have, '{sorted(absent)[0]}' first",
            "use the names of 'mien predict' on the same data",
        )
    return faces.take(~np.isin(faces.names, sorted(names)))
