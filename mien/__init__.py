"""mien reads facial expressions: it trains the networks, measures them, and runs them on pictures and videos.

>>> from mien import Recognizer
>>> faces = Recognizer("base").analyze("photo.jpg")
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.analysis.recognizer import Recognizer
    from mien.core.errors import MienError
    from mien.core.types import Face

__version__ = "0.2.0"
__all__ = ["Face", "MienError", "Recognizer", "__version__"]

#: Public names and where they live: imported when they are first used, so that `import mien` costs next to nothing.
_HOMES = {"Recognizer": "mien.analysis.recognizer", "Face": "mien.core.types", "MienError": "mien.core.errors"}


def _disable_runtime_telemetry() -> None:
    """Turn off the telemetry of onnxruntime, whose packages have it on from 1.29 on, for this process and its children.

    onnxruntime reads the variable once, when it is imported; `onnxruntime.disable_telemetry_events()` comes too late, when a
    device ID is stored and a name has been looked up. A value that the user has set is respected.
    """
    if "onnxruntime" in sys.modules and "ORT_DISABLE_TELEMETRY" not in os.environ:
        import warnings

        warnings.warn(
            "onnxruntime was imported before mien, and its telemetry is on; import mien first, or set ORT_DISABLE_TELEMETRY=1",
            stacklevel=3,
        )
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


_disable_runtime_telemetry()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mien' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
