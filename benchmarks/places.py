"""Where benchmarks find data sets and detector files that the repository does not hold."""

from __future__ import annotations

import os
import sys
from pathlib import Path

YUNET = "face_detection_yunet_2023mar.onnx"
ROOT = Path(__file__).resolve().parent.parent
#: Folders that are searched: one you name, the checkout's own data/, and a folder shared/ beside the checkout.
FOLDERS = [
    Path(os.environ.get("MIEN_DATA", ROOT / "data")),
    ROOT.parent / "shared" / "data",
    ROOT.parent / "shared" / "models",
]


def there(name: str) -> Path | None:
    """A file by name, if it is in one of the folders."""
    return next((folder / name for folder in FOLDERS if (folder / name).exists()), None)


def find(name: str) -> Path:
    """A file by name, or exit 2 with the places that were searched."""
    path = there(name)
    if path is None:
        sys.exit(f"{name} is in none of {', '.join(map(str, FOLDERS))}; put it there or set MIEN_DATA (exit 2)")
    return path
