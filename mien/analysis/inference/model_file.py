"""Find model files by name, read their metadata, and open them with ONNX Runtime."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.analysis.inference.model_check import UnboundedModel, check_model
from mien.analysis.inference.precision import find_int8_instructions, resolve_precision
from mien.core.errors import ModelError, OutputError
from mien.core.files import cache_folder
from mien.core.preprocessing import Preprocessing
from mien.data.annotators import rename_label_source

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

#: The ONNX metadata entry of mien's model files.
METADATA_KEY = "mien"
METADATA_VERSION = 2
#: Keys of version 1 → their present names.
_RENAMED_KEYS = {"licence": "license", "quantised": "quantized", "quantisation": "quantization"}

#: Ending of the quantized file of a model, beside its float file NAME.onnx.
INT8_ENDING = ".int8.onnx"

#: Execution providers of ONNX Runtime, in order of preference.
PROVIDERS = ("CUDAExecutionProvider", "OpenVINOExecutionProvider", "CPUExecutionProvider")


@dataclass(frozen=True)
class ModelInfo:
    """The metadata of a model file.

    labels_by      source of the training labels: "given", or "annotators" of FER+
    temperature    divides the logits before the softmax
    thresholds     "unsure": minimum confidence of a sure label; "not_a_face": minimum score of a crop that is not a face;
                   a missing key means that the threshold was not fitted
    uncertainty    how the thresholds were fitted, and their results on other faces; {} if they were not
    training       the splits that trained the model, and the number of faces; {} if it is unknown
    quantization   for an int8 file: its float file, calibration data, and differences; else {}
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
        """Parse the metadata entries of an ONNX file. Raises ModelError for missing, damaged or newer metadata."""
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
    """Parse the metadata with the keys of the present version. Raises ValueError, KeyError or TypeError if it is damaged."""
    stored: dict[str, Any] = dict(json.loads(text))
    values = {_RENAMED_KEYS.get(key, key): value for key, value in stored.items()}
    for part in (values, values.get("scores")):
        if isinstance(part, dict) and "labels_by" in part:
            part["labels_by"] = rename_label_source(part["labels_by"])
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
    """Return {name: float file} of the models in the package."""
    folder = Path(str(resources.files("mien") / "assets"))
    return {path.stem: path for path in sorted(folder.glob("*.onnx")) if not path.name.endswith(INT8_ENDING)}


def int8_path(path: Path) -> Path:
    """Return the path of the int8 file beside a float file; it may not exist."""
    return path.with_suffix(INT8_ENDING)


def find_model(name_or_path: str | Path) -> Path:
    """Return the float file of a shipped model, or an .onnx file by its path. Raises ModelError if there is none."""
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
    """Return the file to run for a model and a precision: "auto", "float" or "int8".

    A shipped model has two files. "auto" takes the value of MIEN_PRECISION, else int8 if it is faster on this machine (see
    ``mien.analysis.inference.precision``). A path is returned unchanged. Raises ModelError if the int8 file is missing,
    UsageError for an unknown precision.
    """
    requested, path = resolve_precision(precision), find_model(model)
    if str(model) not in list_shipped_models():
        return path
    int8 = int8_path(path)
    if requested == "int8" and not int8.is_file():
        raise ModelError(f"model '{model}'", "has no int8 file", "run it with `precision=float`")
    gains = requested == "auto" and bool(find_int8_instructions()) and list_providers() == ["CPUExecutionProvider"]
    return int8 if (requested == "int8" or gains) and int8.is_file() else path


def list_providers() -> list[str]:
    """Return the execution providers of the installed ONNX Runtime; models run on the first one."""
    import onnxruntime

    return [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]


def make_session_options(threads: int = 0) -> SessionOptions:
    """Return options for ``threads`` threads (0: all cores) that sleep between two runs, without log messages."""
    import onnxruntime

    if sys.platform == "win32":  # Windows does not read the variable that `import mien` sets
        onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads spin within a run only, so that decoders and detectors have the cores between two runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 4
    return options


def open_cpu_session(model: bytes, threads: int) -> InferenceSession:
    """Open a session on the processor for the bytes of a model that is small, as detectors are. Raises onnxruntime's errors."""
    import onnxruntime

    processor = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model, make_session_options(threads), providers=processor, enable_fallback=0)


def open_session(path: Path, threads: int = 0) -> InferenceSession:
    """Open an ONNX Runtime session, on an accelerator if there is one. Raises ModelError for a damaged file."""
    import onnxruntime

    try:
        _check_file(path, _identify_file(path))
        chosen = list_providers()
        # Fall back from an accelerator only: on the processor a fallback is useless, and ONNX Runtime prints it to stdout.
        return onnxruntime.InferenceSession(
            str(path), make_session_options(threads), providers=chosen, enable_fallback=len(chosen) > 1
        )
    except UnicodeDecodeError as error:
        raise _encoding_error(path) from error
    except UnboundedModel as error:
        problem = f"is not a model that is run here: {error}"
        raise ModelError(path, problem, "export or download it again") from error
    except Exception as error:  # ONNX Runtime raises a dozen kinds, whose messages hold paths of its own source
        raise ModelError(
            path, "is not an ONNX file that can be run; it may be damaged", "export or download it again"
        ) from error


def _identify_file(path: Path) -> tuple[int, ...]:
    """Return numbers that change with a file's content; none if the file cannot be found."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=64)
def _check_file(path: Path, identity: tuple[int, ...]) -> None:
    """Check a model file, once in a process: this takes as long as opening it."""
    check_model(path.read_bytes())


@lru_cache(maxsize=64)
def _read_metadata(path: Path, identity: tuple[int, ...]) -> dict[str, str]:
    """Return the metadata of a model file, for which ONNX Runtime has to open it."""
    return dict(open_session(path).get_modelmeta().custom_metadata_map)


def _encoding_error(path: Path) -> ModelError:
    return ModelError(path, "has damaged metadata (it is not UTF-8)", "export or download it again")


def read_model_info(path: Path, session: InferenceSession | None = None) -> ModelInfo:
    """Read the metadata of a model file, from an open session if there is one. Raises ModelError."""
    try:
        if session is not None:
            metadata = session.get_modelmeta().custom_metadata_map
        else:
            metadata = _read_metadata(path, _identify_file(path))
    except UnicodeDecodeError as error:
        raise _encoding_error(path) from error
    return ModelInfo.from_metadata(metadata, path)


class SessionPool:
    """Open one session of a model per number of threads, on first use.

    A pool can be pickled and survives a fork: each process opens its own sessions. ``open_with`` opens a session for a number
    of threads; it is pickled instead of the sessions.
    """

    def __init__(self, open_with: Callable[[int], InferenceSession]) -> None:
        self._open_with = open_with
        self._process = os.getpid()
        self._opened: dict[int, InferenceSession] = {}
        self._inherited: list[object] = []

    def get_session(self, threads: int) -> InferenceSession:
        """Return the session of this process for a number of threads."""
        if self._process != os.getpid():  # a fork does not copy the threads of the parent's sessions
            # Keep the parent's sessions, since destroying them would wait for their threads.
            self._inherited.append(self._opened)
            self._process, self._opened = os.getpid(), {}
        if threads not in self._opened:
            self._opened[threads] = self._open_with(threads)
        return self._opened[threads]

    def __getstate__(self) -> dict[str, object]:
        return {"_open_with": self._open_with, "_process": os.getpid(), "_opened": {}, "_inherited": []}


@dataclass(frozen=True)
class PullableModel:
    """A published model file that is downloaded on demand."""

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
    """Return the downloaded file of a model; None if it was not downloaded."""
    path = cache_folder() / PULLABLE_MODELS[name].file
    return path if path.is_file() else None


def pull_model(name: str, url: str | None = None) -> Path:
    """Download a model file into the cache folder, unless it is there, and return its path.

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
        hint = "set the environment variable MIEN_CACHE to a writable folder"
        raise OutputError(folder, f"cannot be created ({error.strerror})", hint) from error
    pooch.get_logger().setLevel(logging.ERROR)
    own_file = "give a file of your own as `detector_model`"
    try:
        fetch = pooch.HTTPDownloader(timeout=30)
        return Path(pooch.retrieve(address, f"sha256:{known.sha256}", known.file, folder, downloader=fetch))
    except (requests.RequestException, OSError) as error:
        problem = f"could not be fetched ({type(error).__name__})"
        raise ModelError(address, problem, f"check address and network, or {own_file}") from error
    except ValueError as error:
        problem = "is another file than the one that is known (its SHA-256 differs)"
        raise ModelError(address, problem, f"try again later, or {own_file}") from error
