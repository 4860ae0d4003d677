"""mien reads facial expressions: it trains the networks, measures them, and runs them on pictures and videos.

>>> from mien import Recognizer
>>> faces = Recognizer("base").analyze("photo.jpg")
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.analysis.api.analysis import Analysis
    from mien.analysis.api.faces import Faces
    from mien.analysis.api.frame_stream import AnalyzedFrame, FrameStream
    from mien.analysis.api.videos import analyze_frames, analyze_video, iterate_video, read_records
    from mien.analysis.output.annotate import annotate
    from mien.analysis.output.style import Style
    from mien.analysis.recognizer import Recognizer
    from mien.analysis.settings import AnalysisOptions
    from mien.core.errors import MienError
    from mien.core.types import Face
    from mien.data import load_faces
    from mien.evaluation import score
    from mien.training.api import TrainingRun, evaluate, load_model, train

__version__ = "0.2.0"
__all__ = [
    "Analysis", "AnalysisOptions", "AnalyzedFrame", "Face", "Faces", "FrameStream", "MienError", "Recognizer", "Style",
    "TrainingRun", "__version__", "analyze_frames", "analyze_video", "annotate", "evaluate", "iterate_video", "load_faces",
    "load_model", "read_records", "score", "train",
]  # fmt: skip

#: Public names and their modules: imported when they are first used, so that `import mien` costs next to nothing.
_MODULES = {
    "Analysis": "mien.analysis.api.analysis", "AnalysisOptions": "mien.analysis.settings",
    "AnalyzedFrame": "mien.analysis.api.frame_stream", "Face": "mien.core.types", "Faces": "mien.analysis.api.faces",
    "FrameStream": "mien.analysis.api.frame_stream", "MienError": "mien.core.errors",
    "Recognizer": "mien.analysis.recognizer", "Style": "mien.analysis.output.style",
    "analyze_frames": "mien.analysis.api.videos", "analyze_video": "mien.analysis.api.videos",
    "TrainingRun": "mien.training.api", "annotate": "mien.analysis.output.annotate", "evaluate": "mien.training.api",
    "iterate_video": "mien.analysis.api.videos", "load_faces": "mien.data", "load_model": "mien.training.api",
    "read_records": "mien.analysis.api.videos", "score": "mien.evaluation", "train": "mien.training.api",
}  # fmt: skip


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
    if name not in _MODULES:
        raise AttributeError(f"module 'mien' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return list(__all__)
