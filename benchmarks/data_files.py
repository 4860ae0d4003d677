"""Data sets and detector files that benchmarks need and that are not in the repository."""

from __future__ import annotations

import os
import sys
from pathlib import Path

YUNET = "face_detection_yunet_2023mar.onnx"
ROOT = Path(__file__).resolve().parent.parent
#: Folders that are searched: MIEN_DATA, the checkout's own data/, and a folder shared/ beside the checkout.
FOLDERS = [
    Path(os.environ.get("MIEN_DATA", ROOT / "data")),
    ROOT.parent / "shared" / "data",
    ROOT.parent / "shared" / "models",
]


def find_data_file(name: str) -> Path | None:
    """Return the path of a file in one of the folders, or None."""
    return next((folder / name for folder in FOLDERS if (folder / name).exists()), None)


def require_data_file(name: str) -> Path:
    """Return the path of a file in one of the folders, or exit with an error that lists the folders."""
    path = find_data_file(name)
    if path is None:
        sys.exit(f"{name} is in none of {', '.join(map(str, FOLDERS))}; put it there or set MIEN_DATA (exit 2)")
    return path
