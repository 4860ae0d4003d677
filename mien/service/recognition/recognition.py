"""Loaded models and detectors: pictures → faces, for many requests at the same time."""

from __future__ import annotations

import asyncio
import os
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mien.analysis.detection.detectors import (
    DETECTORS,
    Detections,
    Detector,
    make_detector,
    select_detector_file,
)
from mien.analysis.inference.classifier import TTA, Classifier
from mien.analysis.inference.model_file import find_model, find_pulled_model, list_shipped_models, read_model_info
from mien.analysis.recognizer import Recognizer
from mien.analysis.settings import AnalysisOptions
from mien.analysis.tracking.face_finder import FaceFinder
from mien.core.errors import UsageError
from mien.core.types import Face
from mien.service.config import Config
from mien.service.recognition.batching import Batcher

T = TypeVar("T")

#: A detector that has seen a larger picture is not kept: OpenCV's network holds on to the hundreds of MB it took.
MAX_KEPT_SIDE = 1920


@dataclass(frozen=True)
class Recognition:
    """What was found: faces, and their crops uint8 (N, S, S, 3) as the detector's framing cuts them."""

    faces: list[Face]
    crops: np.ndarray
    model: str
    detector: str


class RecognizerPool:
    """Analyze pictures with any of the models and detectors of a service.

    A detector of OpenCV serves one thread at a time, so each is lent out and given back; ONNX Runtime serves many.
    """

    def __init__(self, config: Config, on_batch: Callable[[int, int], None] = lambda requests, crops: None) -> None:
        self._config, self._on_batch = config, on_batch
        self.models = _name_models(config.models)
        self.default_model = next(iter(self.models))
        # Asked of all, so that a file that is no model is told now and not when somebody chooses it.
        self.labels = tuple(
            dict.fromkeys(label for path in self.models.values() for label in read_model_info(path).labels)
        )
        self.detectors = find_usable_detectors(config)
        self._finding = ThreadPoolExecutor(max(2, os.cpu_count() or 2), "find")
        self._classifying = ThreadPoolExecutor(1, "classify")  # one batch at a time: the others gather meanwhile
        self._classifiers: dict[str, Classifier] = {}
        self._batchers: dict[tuple[str, str], Batcher] = {}
        self._idle: dict[tuple[str, float], queue.LifoQueue[Detector]] = {}

    def close(self) -> None:
        for executor in (self._finding, self._classifying):
            executor.shutdown(wait=False, cancel_futures=True)

    async def run_in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run something short that would hold up the others in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._finding, partial(function, *arguments))

    def resolve_options(self, options: AnalysisOptions) -> AnalysisOptions:
        """Return the options with the default model filled in; UsageError for what is unknown here."""
        model = options.model or self.default_model
        if model not in self.models:
            raise UsageError(
                f"model '{model[:60]}'", "is unknown", f"choose one of {', '.join(self.models)}", code="unknown_model"
            )
        if options.detector not in DETECTORS:
            raise UsageError(
                f"detector '{options.detector[:60]}'",
                "is unknown",
                f"choose one of {', '.join(DETECTORS)}",
                code="unknown_detector",
            )
        if options.detector not in self.detectors:
            hint = "choose another, or have 'mien models pull yunet' run where the service is"
            raise UsageError(
                f"detector '{options.detector}'", "is not on this machine", hint, code="detector_not_installed"
            )
        return replace(options, model=model)

    def get_classifier(self, model: str) -> Classifier:
        """Return the model. It is loaded when it is first requested."""
        if model not in self._classifiers:
            self._classifiers[model] = Classifier(self.get_model_source(model), threads=self._config.threads)
        return self._classifiers[model]

    def get_model_source(self, model: str) -> str | Path:
        """Return what to load for a name. A shipped model is loaded by its name, so that the file that suits this
        machine is used."""
        path = self.models[model]
        return model if list_shipped_models().get(model) == path else path

    def make_face_finder(self, options: AnalysisOptions) -> FaceFinder:
        """Return a face finder for a camera. It detects faces in some frames and tracks them in the others, with a
        detector of its own."""
        return FaceFinder(self._make_detector(options), options.people)

    async def analyze(
        self, picture: np.ndarray, options: AnalysisOptions, finder: FaceFinder | None = None, time_s: float = 0.0
    ) -> Recognition:
        """Return the faces of RGB uint8 (H, W, 3), by the steps of `Recognizer.analyze`; crops of several requests go through
        the network together.

        options: resolved before. finder: finds the faces of a camera's frames, given in order with their times.
        """
        if options.model not in self._classifiers:
            await asyncio.get_running_loop().run_in_executor(self._classifying, self.get_classifier, options.model)
        batcher = self._get_batcher(options)
        batcher.announce_request()
        try:
            recognizer, detections, crops = await self.run_in_thread(self._find_crops, picture, options, finder, time_s)
        finally:
            batcher.withdraw_announcement()
        width = len(recognizer.labels) + 1
        rows = await batcher.classify_crops(crops) if len(crops) else np.empty((0, width), np.float32)
        non_faces = rows[:, -1] if recognizer.classifier.has_non_face_score else None
        faces = recognizer.make_faces(detections, rows[:, :-1], non_faces)
        return Recognition(faces, crops, recognizer.model_name, recognizer.detector_name)

    def _get_batcher(self, options: AnalysisOptions) -> Batcher:
        key = options.model, options.tta
        if key not in self._batchers:
            classify = partial(_classify_crops, self.get_classifier(options.model), options.tta)
            self._batchers[key] = Batcher(classify, self._classifying, self._on_batch)
        return self._batchers[key]

    def _find_crops(
        self, picture: np.ndarray, options: AnalysisOptions, finder: FaceFinder | None, time_s: float
    ) -> tuple[Recognizer, Detections, np.ndarray]:
        """Return who analyzes a picture, the boxes of its faces, and their crops."""
        classifier = self.get_classifier(options.model)
        if finder is not None:
            recognizer = Recognizer.from_parts(options, classifier, finder.detector)
            detections = finder.find_faces(picture, time_s)
            return recognizer, detections, recognizer.crop_faces(picture, detections)
        with self._borrow_detector(options, keep=max(picture.shape[:2]) <= MAX_KEPT_SIDE) as detector:
            recognizer = Recognizer.from_parts(options, classifier, detector)
            detections = recognizer.detect_faces(picture)
            return recognizer, detections, recognizer.crop_faces(picture, detections)

    @contextmanager
    def _borrow_detector(self, options: AnalysisOptions, keep: bool) -> Iterator[Detector]:
        """Lend a detector to one user at a time; ``keep`` it for the next request."""
        key = options.detector, round(options.detector_threshold, 2)
        if len(self._idle) > 20 and key not in self._idle:
            self._idle.clear()  # thresholds of all kinds were asked for: begin again rather than keep them all
        idle = self._idle.setdefault(key, queue.LifoQueue())
        try:
            detector = idle.get_nowait()
        except queue.Empty:
            detector = self._make_detector(options)
        yield detector
        if keep:
            idle.put(detector)

    def _make_detector(self, options: AnalysisOptions) -> Detector:
        file = select_detector_file(options.detector, self._config.detector_model)
        return make_detector(options.detector, file, self._config.threads, round(options.detector_threshold, 2))


def _classify_crops(classifier: Classifier, tta: TTA, crops: np.ndarray) -> np.ndarray:
    """Return float32 (N, K + 1): the probabilities of crops, and in the last column the not-a-face scores (0:
    unknown)."""
    probabilities, non_faces = classifier.predict(crops, tta)
    last = np.zeros(len(crops), np.float32) if non_faces is None else non_faces
    return np.column_stack([probabilities, last])


def find_usable_detectors(config: Config) -> list[str]:
    """Return the names in DETECTORS that work on this machine."""
    file = select_detector_file("yunet", config.detector_model) or find_pulled_model("yunet")
    return [name for name in DETECTORS if name != "yunet" or file is not None]


def _name_models(models: tuple[str, ...]) -> dict[str, Path]:
    """Name → file: those of the start first, by their file's stem, then what ships with mien. UsageError where two have one
    name."""
    chosen: dict[str, Path] = {}
    for path in map(find_model, models):
        if chosen.setdefault(path.stem, path) != path:
            problem = f"is the name of {chosen[path.stem]} and of {path}"
            raise UsageError(f"`model={path.stem}`", problem, "give one of the files another name")
    return chosen | {name: path for name, path in list_shipped_models().items() if name not in chosen}
