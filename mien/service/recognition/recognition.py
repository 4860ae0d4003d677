"""Models and detectors, kept ready: pictures → faces, for many requests at the same time."""

from __future__ import annotations

import asyncio
import os
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mien.analysis.detection.detectors import (
    DETECTORS,
    Detections,
    Detector,
    YuNetDetector,
    crop_faces,
    detect_faces,
    keep_largest,
    make_detector,
)
from mien.analysis.inference.classifier import TTA, Classifier, check_tta
from mien.analysis.inference.model_file import find_model, find_pulled_model, list_shipped_models, read_model_info
from mien.analysis.thresholds import Doubt, make_faces
from mien.analysis.tracking.face_finder import FaceFinder
from mien.core.errors import UsageError
from mien.core.types import Face
from mien.service.config import Config
from mien.service.recognition.batching import Batcher

T = TypeVar("T")

#: A detector that has seen a larger picture is not kept: OpenCV's network holds on to the hundreds of MB it took.
KEPT_SIDE = 1920


@dataclass(frozen=True)
class Wish:
    """How a request wants its pictures read.

    threshold  of the detector's score, 0 for the detector's own
    people     so many of the largest faces; 0 for all
    """

    model: str
    detector: str = "auto"
    threshold: float = 0.0
    people: int = 0
    tta: TTA = "none"


@dataclass(frozen=True)
class Reading:
    """What was found: faces, and their crops uint8 (N, S, S, 3) as the detector's framing cuts them."""

    faces: list[Face]
    crops: np.ndarray
    model: str
    detector: str


class Reader:
    """Reads pictures with any of the models and detectors of a service.

    A detector of OpenCV serves one thread at a time, so each is lent out and given back; ONNX Runtime serves many.
    """

    def __init__(self, config: Config, watch: Callable[[int, int], None] = lambda requests, crops: None) -> None:
        self._config, self._watch = config, watch
        self.models = _named(config.models)
        self.default_model = next(iter(self.models))
        # Asked of all, so that a file that is no model is told now and not when somebody chooses it.
        self.labels = tuple(
            dict.fromkeys(label for path in self.models.values() for label in read_model_info(path).labels)
        )
        self.detectors = usable_detectors(config)
        self._finding = ThreadPoolExecutor(max(2, os.cpu_count() or 2), "find")
        self._classifying = ThreadPoolExecutor(1, "classify")  # one batch at a time: the others gather meanwhile
        self._classifiers: dict[str, Classifier] = {}
        self._batchers: dict[tuple[str, str], Batcher] = {}
        self._idle: dict[tuple[str, float], queue.LifoQueue[Detector]] = {}

    def close(self) -> None:
        for executor in (self._finding, self._classifying):
            executor.shutdown(wait=False, cancel_futures=True)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run something short that would hold up the others in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._finding, partial(function, *arguments))

    def check(self, wish: Wish) -> Wish:
        """The wish with its default model filled in; UsageError for what is unknown here."""
        model = wish.model or self.default_model
        if model not in self.models:
            raise UsageError(
                f"model '{model[:60]}'", "is unknown", f"choose one of {', '.join(self.models)}", code="unknown_model"
            )
        if wish.detector not in DETECTORS:
            raise UsageError(
                f"detector '{wish.detector[:60]}'",
                "is unknown",
                f"choose one of {', '.join(DETECTORS)}",
                code="unknown_detector",
            )
        if wish.detector not in self.detectors:
            hint = "pull it with 'mien models pull yunet' and start again, or choose another"
            raise UsageError(
                f"detector '{wish.detector}'", "is not on this machine", hint, code="detector_not_installed"
            )
        check_tta(wish.tta, "tta=")
        values = {name: getattr(wish, name) for name in ("detector", "threshold", "people", "tta")}
        return Wish(model, **values)

    def classifier(self, model: str) -> Classifier:
        """The model, loaded when it is first asked for."""
        if model not in self._classifiers:
            self._classifiers[model] = Classifier(self.asked(model), threads=self._config.threads)
        return self._classifiers[model]

    def asked(self, model: str) -> str | Path:
        """What to load for a name: of a shipped model the name, so that the file that suits this machine is taken."""
        path = self.models[model]
        return model if list_shipped_models().get(model) == path else path

    def finder(self, wish: Wish) -> FaceFinder:
        """For a camera: it searches some frames and follows faces through the others, with a detector of its own."""
        detector = new_detector(
            wish.detector, self._config.detector_model, round(wish.threshold, 2), self._config.threads
        )
        return FaceFinder(detector, wish.people)

    async def read(
        self, picture: np.ndarray, wish: Wish, finder: FaceFinder | None = None, time_s: float = 0.0
    ) -> Reading:
        """The faces of RGB uint8 (H, W, 3); the wish was checked.

        finder: finds the faces of a camera's frames, given in order with their times.
        """
        if wish.model not in self._classifiers:
            await asyncio.get_running_loop().run_in_executor(self._classifying, self.classifier, wish.model)
        classifier, batcher = self.classifier(wish.model), self._batcher(wish)
        batcher.expect()
        try:
            size = classifier.preprocessing.size
            if finder is None:
                found, name, crops = await self.run(self._find, picture, wish, size)
            else:
                found, name, crops = await self.run(_followed, picture, wish, size, finder, time_s)
        finally:
            batcher.arrive()
        labels = classifier.labels
        rows = await batcher.probabilities(crops) if len(crops) else np.empty((0, len(labels) + 1), np.float32)
        nothing = rows[:, -1] if classifier.has_non_face_score else None
        faces = make_faces(found, rows[:, :-1], nothing, labels, Doubt.of(classifier), detected=name != "none")
        return Reading(faces, crops, classifier.info.name, name)

    def _batcher(self, wish: Wish) -> Batcher:
        key = wish.model, wish.tta
        if key not in self._batchers:
            classify = partial(_judged, self.classifier(wish.model), wish.tta)
            self._batchers[key] = Batcher(classify, self._classifying, self._watch)
        return self._batchers[key]

    def _find(self, picture: np.ndarray, wish: Wish, size: int) -> tuple[Detections, str, np.ndarray]:
        with self._lent(wish.detector, wish.threshold, keep=max(picture.shape[:2]) <= KEPT_SIDE) as detector:
            found = keep_largest(_sure(detect_faces(detector, picture), wish.threshold), wish.people)
            return found, detector.name, crop_faces(picture, found.boxes_xyxy, detector.framing, size)

    @contextmanager
    def _lent(self, name: str, threshold: float, keep: bool) -> Iterator[Detector]:
        key = name, round(threshold, 2)
        if len(self._idle) > 20 and key not in self._idle:
            self._idle.clear()  # thresholds of all kinds were asked for: begin again rather than keep them all
        idle = self._idle.setdefault(key, queue.LifoQueue())
        try:
            detector = idle.get_nowait()
        except queue.Empty:
            detector = new_detector(name, self._config.detector_model, key[1], self._config.threads)
        yield detector
        if keep:
            idle.put(detector)


def _judged(classifier: Classifier, tta: TTA, crops: np.ndarray) -> np.ndarray:
    """float32 (N, K + 1): the probabilities of crops, and in the last column the score that each is no face (0: unknown)."""
    probabilities, non_faces = classifier.predict(crops, tta)
    last = np.zeros(len(crops), np.float32) if non_faces is None else non_faces
    return np.column_stack([probabilities, last])


def _followed(
    picture: np.ndarray, wish: Wish, size: int, finder: FaceFinder, time_s: float
) -> tuple[Detections, str, np.ndarray]:
    found, detector = _sure(finder.find_faces(picture, time_s), wish.threshold), finder.detector
    return found, detector.name, crop_faces(picture, found.boxes_xyxy, detector.framing, size)


def _sure(found: Detections, threshold: float) -> Detections:
    keep = found.scores >= threshold
    return Detections(found.boxes_xyxy[keep], found.scores[keep])


def new_detector(name: str, file: Path | None, threshold: float, threads: int = 0) -> Detector:
    """A detector by name; YuNet takes its threshold when it is made, 0 for its own."""
    own = file if name in ("auto", "yunet") else None
    if threshold and name in ("auto", "yunet") and (own or find_pulled_model("yunet")):
        return YuNetDetector(own or find_pulled_model("yunet"), max(threshold, 0.05), threads)
    return make_detector(name, own, threads)


def usable_detectors(config: Config) -> list[str]:
    """The names in DETECTORS that work on this machine."""
    has_yunet = config.detector_model is not None or find_pulled_model("yunet") is not None
    return [name for name in DETECTORS if name != "yunet" or has_yunet]


def _named(models: tuple[str, ...]) -> dict[str, Path]:
    """Name → file: those of the start first, by their file's stem, then what ships with mien. UsageError where two have one
    name."""
    chosen: dict[str, Path] = {}
    for path in map(find_model, models):
        if chosen.setdefault(path.stem, path) != path:
            found = f"is the name of {chosen[path.stem]} and of {path}"
            raise UsageError(f"--model {path.stem}", found, "give one of the files another name")
    return chosen | {name: path for name, path in list_shipped_models().items() if name not in chosen}
