"""Any layout of a facial-expression data set → FaceSet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mien.core.errors import DataError
from mien.core.types import FaceSet, concatenate
from mien.data.parquet_layout import read_parquet


def load_faces(paths: str | Path | Sequence[str | Path], *, size: int = 48, skip_bad: bool = False) -> FaceSet:
    """Read one data set, or several as one."""
    if isinstance(paths, (str, Path)):
        paths = [paths]
    return concatenate(_load_one(Path(path), size, skip_bad) for path in paths)


def _load_one(path: Path, size: int, skip_bad: bool) -> FaceSet:
    if not path.exists():
        raise DataError(path, "does not exist", "check the path")
    return read_parquet(path, size=size, skip_bad=skip_bad)
