"""mien reads facial expressions: it trains the networks, measures them, and runs them on pictures and videos.

>>> from mien import Recognizer
>>> faces = Recognizer("base").analyze("photo.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.core.errors import MienError
    from mien.core.types import Face
    from mien.run.recognizer import Recognizer

__version__ = "0.1.0"
__all__ = ["Face", "MienError", "Recognizer", "__version__"]

#: Public names and where they live: imported when they are first used, so that `import mien` costs next to nothing.
_HOMES = {"Recognizer": "mien.run.recognizer", "Face": "mien.core.types", "MienError": "mien.core.errors"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mien' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
