"""Model files: finding them by name, and reading what they say of themselves."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.analysis.inference.model_check import UnboundedModel, check_model
from mien.analysis.inference.precision import find_int8_instructions, resolve_precision
from mien.core.errors import ModelError, OutputError
from mien.core.files import cache_folder
from mien.core.preprocessing import Preprocessing

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

#: The ONNX metadata entry that makes a file one of ours.
METADATA_KEY = "mien"
METADATA_VERSION = 2
#: Keys of version 1, and what they are called since.
_RENAMED_KEYS = {"licence": "license", "quantised": "quantized", "quantisation": "quantization"}

#: How the quantized file of a model is named, beside its float file NAME.onnx.
INT8_ENDING = ".int8.onnx"

#: Where ONNX Runtime may run a model, in the order in which they are taken.
PROVIDERS = ("CUDAExecutionProvider", "OpenVINOExecutionProvider", "CPUExecutionProvider")


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says of itself.

    labels_by      whose labels it learned, "given" or FER+'s "raters"
    temperature    divides the logits before the softmax
    thresholds     "unsure": the confidence from which on an answer is given; "not_a_face": the score from which on
                   a crop counts as no face; absent where nothing was fitted
    uncertainty    how these were fitted, and what they are worth on faces that did not fit them; {} before
    training       the splits that trained it, and how many faces; {} where it is not stated
    quantization   of an int8 file: what it was made from, calibrated on and what it changes; {} else
    """

    name: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    network: dict[str, Any]
    temperature: float
    thresholds: dict[str, float]
    scores: dict[str, Any]
    license: str
    quantized: bool
    labels_by: str = "given"
    uncertainty: dict[str, Any] = field(default_factory=dict)
    quantization: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], path: Path) -> ModelInfo:
        """From an ONNX file's metadata entries; ModelError if they are not ours or of a newer version."""
        if METADATA_KEY not in metadata:
            raise ModelError(
                path,
                "is an ONNX file without mien's metadata (labels, preprocessing)",
                "export it with 'mien export', or name a model from 'mien models'",
            )
        try:
            values = read_metadata(metadata[METADATA_KEY])
            if values["version"] > METADATA_VERSION:
                raise ModelError(
                    path,
                    f"has metadata of version {values['version']}, this mien reads {METADATA_VERSION}",
                    "upgrade mien",
                )
            network = dict(values["network"])
            return cls(
                name=str(values["name"]),
                labels=_parse_labels(values["labels"]),
                preprocessing=Preprocessing.from_json(values["preprocessing"]),
                network=network | {"name": str(network["name"]), "arguments": dict(network["arguments"])},
                temperature=_parse_temperature(values["temperature"]),
                thresholds={str(name): float(value) for name, value in dict(values["thresholds"]).items()},
                scores=dict(values["scores"]),
                license=str(values["license"]),
                quantized=bool(values["quantized"]),
                labels_by=str(values.get("labels_by", "given")),
                uncertainty=dict(values.get("uncertainty", {})),
                quantization=dict(values.get("quantization", {})),
                training=dict(values.get("training", {})),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(path, f"has damaged metadata ({error!r})", "export it again") from error


def read_metadata(text: str) -> dict[str, Any]:
    """The metadata of a model file, in the words of the present version. ValueError, KeyError or TypeError if it is damaged."""
    stored: dict[str, Any] = dict(json.loads(text))
    values = {_RENAMED_KEYS.get(key, key): value for key, value in stored.items()}
    return values | {"version": max(values["version"], METADATA_VERSION)}


def _parse_labels(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not values or not all(isinstance(name, str) for name in values):
        raise ValueError(f"labels are {values!r}, not a list of names")
    if len(set(values)) < len(values):
        raise ValueError(f"labels are {values!r}, some of them twice")
    return tuple(values)


def _parse_temperature(value: Any) -> float:
    temperature = float(value)
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {value}")
    return temperature


def list_shipped_models() -> dict[str, Path]:
    """Name → float file of the models inside the package."""
    folder = Path(str(resources.files("mien") / "assets"))
    return {path.stem: path for path in sorted(folder.glob("*.onnx")) if not path.name.endswith(INT8_ENDING)}


def int8_path(path: Path) -> Path:
    """``base.onnx`` → ``base.int8.onnx``, whether it is there or not."""
    return path.with_suffix(INT8_ENDING)


def find_model(name_or_path: str | Path) -> Path:
    """The float file of a shipped model by name, or an .onnx file by path. ModelError lists the choices."""
    shipped = list_shipped_models()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix.lower() == ".onnx" or path.exists():
        if not path.exists():
            raise ModelError(path, "does not exist", f"check the path, or choose one of {', '.join(shipped)}")
        if path.suffix.lower() == ".pt":
            raise ModelError(path, "is a checkpoint of training", "write an .onnx file from it with 'mien export'")
        if path.is_dir():
            raise ModelError(path, "is a folder", "name an .onnx file in it, or export the run with 'mien export'")
        if path.stat().st_size == 0:
            raise ModelError(path, "is empty (0 bytes)", "export or download it again")
        if not os.access(path, os.R_OK):
            raise ModelError(path, "cannot be read (Permission denied)", "check its permissions")
        return path
    raise ModelError(
        f"model '{name_or_path}'", "is unknown", f"choose one of {', '.join(shipped)}, or name an .onnx file"
    )


def choose_model_file(model: str | Path, precision: str = "auto") -> Path:
    """The file to run for a model and a precision: "auto", "float" or "int8".

    A shipped name has two files: auto takes int8 where this machine gains by it (see ``mien.analysis.inference.precision``) and what
    MIEN_PRECISION says where that is set. A path is taken as it is. Raises ModelError for a name without an int8 file
    when that is asked for, UsageError for a precision that is unknown.
    """
    asked, path = resolve_precision(precision), find_model(model)
    if str(model) not in list_shipped_models():
        return path
    int8 = int8_path(path)
    if asked == "int8" and not int8.is_file():
        raise ModelError(f"model '{model}'", "has no int8 file", "run it with --precision float")
    gains = asked == "auto" and bool(find_int8_instructions()) and list_providers() == ["CPUExecutionProvider"]
    return int8 if (asked == "int8" or gains) and int8.is_file() else path


def list_providers() -> list[str]:
    """Where ONNX Runtime, as it is installed here, can run models; the first one is taken."""
    import onnxruntime

    return [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]


def make_session_options(threads: int = 0) -> SessionOptions:
    """So many threads (0: all cores), which leave the cores to others between two runs; errors are raised, not printed."""
    import onnxruntime

    if sys.platform == "win32":  # there the variable that `import mien` sets is not read
        onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads wait busily for each other within a run and stop when it ends: the cores are then decoders' and detectors'.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 4
    return options


def open_session(path: Path, threads: int = 0) -> InferenceSession:
    """An ONNX Runtime session, on an accelerator if the user's build has one; ModelError for a file that is damaged."""
    import onnxruntime

    try:
        check_model(path.read_bytes())
        chosen = list_providers()
        # What fails on an accelerator is tried without. On the processor there is nothing else, and stdout is not ONNX Runtime's.
        return onnxruntime.InferenceSession(
            str(path), make_session_options(threads), providers=chosen, enable_fallback=len(chosen) > 1
        )
    except UnicodeDecodeError as error:
        raise _encoding_error(path) from error
    except UnboundedModel as error:
        found = f"is not a model that is run here: {error}"
        raise ModelError(path, found, "export or download it again") from error
    except Exception as error:  # ONNX Runtime raises a dozen kinds, whose messages hold paths of its own source
        raise ModelError(
            path, "is not an ONNX file that can be run; it may be damaged", "export or download it again"
        ) from error


def _encoding_error(path: Path) -> ModelError:
    return ModelError(path, "has damaged metadata (it is not UTF-8)", "export or download it again")


def read_model_info(path: Path, session: InferenceSession | None = None) -> ModelInfo:
    """What a model file says of itself."""
    try:
        metadata = (session or open_session(path)).get_modelmeta().custom_metadata_map
    except UnicodeDecodeError as error:
        raise _encoding_error(path) from error
    return ModelInfo.from_metadata(metadata, path)


class SessionPool:
    """One session of a model for each number of threads, opened when it is first asked for.

    It can be pickled, and it can be forked: sessions live in the process that opened them, so another opens its own.
    ``open_with`` makes a session for a number of threads, and is pickled instead of the sessions.
    """

    def __init__(self, open_with: Callable[[int], InferenceSession]) -> None:
        self._open_with = open_with
        self._process = os.getpid()
        self._opened: dict[int, InferenceSession] = {}
        self._inherited: list[object] = []

    def get_session(self, threads: int) -> InferenceSession:
        if self._process != os.getpid():  # after a fork the threads of the parent's sessions are not there
            # Nor can those be ended here: they would wait for their threads.
            self._inherited.append(self._opened)
            self._process, self._opened = os.getpid(), {}
        if threads not in self._opened:
            self._opened[threads] = self._open_with(threads)
        return self._opened[threads]

    def __getstate__(self) -> dict[str, object]:
        return {"_open_with": self._open_with, "_process": os.getpid(), "_opened": {}, "_left": []}


@dataclass(frozen=True)
class PullableModel:
    """A file that others publish and that is fetched on demand."""

    name: str
    file: str
    url: str
    sha256: str
    license: str
    description: str


PULLABLE_MODELS = {
    "yunet": PullableModel(
        name="yunet",
        file="face_detection_yunet_2023mar.onnx",
        url="https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
        "face_detection_yunet_2023mar.onnx",
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        license="MIT",
        description="YuNet face detector (Wu, Peng & Yu, 2023), from OpenCV Zoo",
    ),
}


def find_pulled_model(name: str) -> Path | None:
    """The file of a pullable model, if it was pulled; else None."""
    path = cache_folder() / PULLABLE_MODELS[name].file
    return path if path.is_file() else None


def pull_model(name: str, url: str | None = None) -> Path:
    """Fetch a pullable file into the cache folder and return its path; a good file that is there is not fetched again.

    Raises ModelError for an unknown name, an address that does not answer, and a file with another SHA-256.
    """
    if name not in PULLABLE_MODELS:
        raise ModelError(f"model '{name}'", "cannot be pulled", f"choose one of {', '.join(PULLABLE_MODELS)}")
    import logging

    import pooch
    import requests

    known, address = PULLABLE_MODELS[name], url or PULLABLE_MODELS[name].url
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "name a folder that can be written in the environment variable MIEN_CACHE"
        raise OutputError(folder, f"cannot be created ({error.strerror})", hint) from error
    pooch.get_logger().setLevel(logging.ERROR)
    own_file = "give a file of your own with --detector-model"
    try:
        fetch = pooch.HTTPDownloader(timeout=30)
        return Path(pooch.retrieve(address, f"sha256:{known.sha256}", known.file, folder, downloader=fetch))
    except (requests.RequestException, OSError) as error:
        found = f"could not be fetched ({type(error).__name__})"
        raise ModelError(address, found, f"check address and network, or {own_file}") from error
    except ValueError as error:
        found = "is another file than the one that is known (its SHA-256 differs)"
        raise ModelError(address, found, f"try again later, or {own_file}") from error
