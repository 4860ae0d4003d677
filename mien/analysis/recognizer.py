"""Recognizer: a model and a face detector, pictures → faces."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import cast, overload

import numpy as np
from PIL import Image

from mien import __version__
from mien.analysis.api.faces import Faces, PictureReader
from mien.analysis.detection.detectors import Detections, Detector, detect_faces, keep_largest, make_detector
from mien.analysis.detection.framing import crop_faces
from mien.analysis.inference.classifier import TTA, Classifier
from mien.analysis.media.yuv import YuvImage
from mien.analysis.prefetch import threads_per_stage
from mien.analysis.settings import AnalysisOptions
from mien.analysis.thresholds import Thresholds, make_faces
from mien.analysis.tracking.face_finder import FaceFinder
from mien.core.errors import MediaError
from mien.core.pictures import MAX_PIXELS, convert_pillow, convert_to_rgb, read_picture
from mien.core.types import Face

#: A path, a Pillow image, or an array that holds a picture.
Picture = str | Path | Image.Image | np.ndarray


class Recognizer:
    """A model and a face detector.

    >>> from mien import Recognizer
    >>> for face in Recognizer("base").analyze("photo.jpg"):
    ...     print(face.label, face.confidence, face.box_xyxy)

    Args:
        model: a shipped model's name, or the path of an .onnx file.
        detector: "auto" (YuNet if it was pulled, else Haar), "haar", "yunet", or "none": the whole picture is a face.
        detector_model: a YuNet file of your own.
        detector_threshold: faces with a lower detection score are left out; 0: the detector's own threshold.
        tta: "none", "flip" or "ten-crop": average the probabilities over changed copies of each face.
        threads: processor threads for each of the networks; 0 takes all cores.
        precision: "float" or "int8"; "auto" takes int8 where this processor gains by it.
        unsure: confidence below which a label is unsure: "auto" is the model's own threshold, "off" none, or a number.
        drop_non_faces: faces whose not-a-face score is above this are left out: "off", "auto" (the model's own) or
            a number. Without a detector nothing is left out.
        people: keep only so many faces of each picture or frame, the largest ones; 0 keeps all.
        max_pixels: pictures with more are refused, and videos; of these by default those of more than 67,108,864 a frame.
        allow_truncated: analyze what decodes of a picture file that is cut off, instead of refusing it.

    Raises ModelError or UsageError for a model or detector that cannot be used.
    """

    def __init__(
        self,
        model: str | Path = "base",
        *,
        detector: str = "auto",
        detector_model: str | Path | None = None,
        detector_threshold: float = 0.0,
        tta: TTA = "none",
        threads: int = 0,
        precision: str = "auto",
        unsure: str | float = "auto",
        drop_non_faces: str | float = "off",
        people: int = 0,
        max_pixels: int = MAX_PIXELS,
        allow_truncated: bool = False,
    ) -> None:
        self.options = AnalysisOptions(
            model=str(model),
            detector=detector,
            detector_model=None if detector_model is None else str(detector_model),
            detector_threshold=detector_threshold,
            tta=tta,
            precision=precision,
            unsure=unsure,
            drop_non_faces=drop_non_faces,
            people=int(people) if isinstance(people, np.integer) else people,
            max_pixels=max_pixels,
            allow_truncated=allow_truncated,
        )
        self.classifier = Classifier(model, threads=threads, precision=precision)
        self.thresholds = Thresholds.from_classifier(self.classifier, unsure, drop_non_faces)
        self.detector = make_detector(detector, detector_model, threads, detector_threshold)
        self.threads = threads

    @classmethod
    def from_options(cls, options: AnalysisOptions) -> Recognizer:
        """Return a recognizer with the model, the detector and the thresholds of these options."""
        names = inspect.signature(cls).parameters.keys() & {field.name for field in fields(options)}
        return cls(**{name: getattr(options, name) for name in names})

    @classmethod
    def from_parts(cls, options: AnalysisOptions, classifier: Classifier, detector: Detector) -> Recognizer:
        """Return a recognizer of a model and a detector that are loaded already; the options give all the rest."""
        recognizer = cls.__new__(cls)
        recognizer.options, recognizer.classifier, recognizer.detector = options, classifier, detector
        recognizer.thresholds = Thresholds.from_classifier(classifier, options.unsure, options.drop_non_faces)
        recognizer.threads = 0
        return recognizer

    def __repr__(self) -> str:
        return f"<Recognizer {self.model_name} ({self.classifier.precision}), detector {self.detector_name}>"

    @property
    def max_frame_pixels(self) -> int:
        """Pixels of a video's frame at most. The default is lower than that of pictures, since several frames are in memory."""
        from mien.analysis.media.container import MAX_FRAME_PIXELS

        return MAX_FRAME_PIXELS if self.options.max_pixels == MAX_PIXELS else self.options.max_pixels

    @property
    def labels(self) -> tuple[str, ...]:
        """The expressions, in the order of the probabilities."""
        return self.classifier.labels

    @property
    def model_name(self) -> str:
        return self.classifier.info.name

    @property
    def detector_name(self) -> str:
        return self.detector.name

    @overload
    def analyze(self, picture: Picture) -> Faces: ...  # type: ignore[overload-overlap]  # a str is a sequence of str

    @overload
    def analyze(self, picture: Sequence[Picture]) -> list[Faces]: ...

    def analyze(self, picture: Picture | Sequence[Picture]) -> Faces | list[Faces]:
        """Return the faces of one picture, the highest detection score first; of a list of pictures such faces for each.

        ``picture`` is a path, a PIL image, or an array: RGB (H, W, 3), RGBA (H, W, 4) or gray (H, W), as uint8, uint16 or
        float (see `convert_to_rgb`). Of an animated picture the first frame is read. Raises MediaError for a file that cannot be
        read, ValueError for an array that is no picture.
        """
        if isinstance(picture, (list, tuple)):
            if not picture:
                raise ValueError(
                    "an empty list holds no picture: give a path, a PIL image, an array, or a list of these"
                )
            if all(isinstance(one, (str, Path, Image.Image)) or np.ndim(one) > 1 for one in picture):
                return [self.analyze(one) for one in picture]
        one = cast(Picture, picture)
        reader = PictureReader(one, self.options.max_pixels, self.options.allow_truncated)
        return Faces(
            self.analyze_frames([self._read_no_video(one)], thorough=True)[0], source=reader.name, labels=self.labels,
            model=self.model_name, detector=self.detector_name, read_picture=reader,
        )  # fmt: skip

    def _read_no_video(self, picture: Picture) -> np.ndarray:
        """Read a picture; MediaError says where videos go."""
        try:
            return self.read_picture(picture)
        except MediaError as error:
            if error.code != "video_not_picture":
                raise
            hint = "use `mien.analyze_video`"
            raise MediaError(error.name, error.problem, hint, code=error.code) from None

    def read_picture(self, picture: Picture) -> np.ndarray:
        """Return whatever ``analyze`` takes as upright RGB uint8 (H, W, 3). Raises MediaError or ValueError."""
        if isinstance(picture, (str, Path)):
            return read_picture(
                picture, max_pixels=self.options.max_pixels, allow_truncated=self.options.allow_truncated
            )
        if isinstance(picture, Image.Image):
            return convert_pillow(picture)
        return convert_to_rgb(np.asarray(picture))

    def read_bytes(self, content: bytes, name: str) -> np.ndarray:
        """Return the bytes of a picture file as upright RGB uint8 (H, W, 3); errors call it ``name``."""
        return read_picture(
            content, name=name, max_pixels=self.options.max_pixels, allow_truncated=self.options.allow_truncated
        )

    def analyze_frames(self, pictures: Sequence[np.ndarray], *, thorough: bool = False) -> list[list[Face]]:
        """Return the faces of several RGB uint8 pictures (H, W, 3).

        Each picture is searched; the network classifies all crops in one batch.
        """
        return self.classify_faces(pictures, [self.detect_faces(picture, thorough=thorough) for picture in pictures])

    def for_streaming(self) -> Recognizer:
        """Return a copy for videos, where decoding, detection, classification and encoding share the cores.

        Each network has a quarter of the cores, unless ``threads`` says otherwise; more threads would wait for each other.
        """
        twin, threads = copy.copy(self), self.threads or threads_per_stage()
        twin.classifier = self.classifier.with_threads(threads)
        twin.detector = self.detector.with_threads(threads)
        return twin

    def make_face_finder(self) -> FaceFinder:
        """Return a finder for the frames of one video, given in order; it does not search every frame."""
        return FaceFinder(self.detector, self.options.people)

    def classify_faces(
        self, pictures: Sequence[np.ndarray | YuvImage], detections: Sequence[Detections]
    ) -> list[list[Face]]:
        """What was found in each of several pictures, RGB uint8 or planes → its faces; all crops go through the network
        together."""
        crops = [self.crop_faces(picture, one) for picture, one in zip(pictures, detections, strict=True)]
        if not crops:
            return []
        probabilities, non_faces = self.classifier.predict(np.concatenate(crops), self.options.tta)
        faces, start = [], 0
        for one in detections:
            mine = slice(start, start + len(one))
            nothing = None if non_faces is None else non_faces[mine]
            faces.append(self.make_faces(one, probabilities[mine], nothing))
            start += len(one)
        return faces

    def detect_faces(self, picture: np.ndarray, *, thorough: bool = True) -> Detections:
        """Return the boxes of RGB uint8 (H, W, 3): the first step of `analyze`. A search that is not thorough is for frames of videos."""
        return keep_largest(detect_faces(self.detector, picture, thorough=thorough), self.options.people)

    def crop_faces(self, picture: np.ndarray | YuvImage, detections: Detections) -> np.ndarray:
        """Return what the model gets to see of each box, uint8 (N, S, S[, 3]): the second step of `analyze`."""
        size = self.classifier.info.preprocessing.size
        return crop_faces(picture, detections.boxes_xyxy, self.detector.framing, size)

    def make_faces(self, detections: Detections, probabilities: np.ndarray, non_faces: np.ndarray | None) -> list[Face]:
        """Return the faces of boxes and of what the model predicts for their crops: the last step of `analyze`.

        probabilities   float32 (N, K)
        non_faces       float32 (N,), scores that each is no face; None where the model gives none
        """
        has_detector = not self.detector.is_whole_picture
        return make_faces(detections, probabilities, non_faces, self.labels, self.thresholds, has_detector)

    def fingerprint(self) -> dict[str, object]:
        """Return all that the results depend on, as JSON holds it."""
        return {
            "mien": __version__,
            "model": self._digest,
            "detector": self.detector_name,
            "detector_file": self.detector.digest,
            "detector_threshold": self.options.detector_threshold,
            "people": self.options.people,
            "tta": self.options.tta,
            "doubt": repr(self.thresholds),
        }

    @cached_property
    def _digest(self) -> str:
        """SHA-256 of the model file, read once however many inputs there are."""
        return hashlib.sha256(self.classifier.path.read_bytes()).hexdigest()

    def classify(self, crops: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Face crops uint8 (N, H, W) gray or (N, H, W, 3) RGB → probabilities float32 (N, K) over ``labels``.

        A list of crops of one size is taken, too. Raises ValueError for other shapes and types.
        """
        if not isinstance(crops, np.ndarray):
            sizes = {np.shape(crop) for crop in crops}
            if len(sizes) > 1:
                raise ValueError(f"crops have one size, not {', '.join(map(str, sorted(sizes)))}: resize them")
            crops = np.stack(crops) if len(crops) else np.empty((0, 1, 1), np.uint8)
        return self.classifier.probabilities(crops, self.options.tta)
