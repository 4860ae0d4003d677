"""Assign tracks and smoothed probabilities to the faces of a video, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mien.analysis.media.yuv import YuvImage
from mien.analysis.tracking.smoothing import TIME_CONSTANT_S, Smoother
from mien.analysis.tracking.tracker import SPARSE_S, Tracker, appearance_embeddings
from mien.core.types import Face


@dataclass
class Follower:
    """Assign tracks and smoothed probabilities to the faces of a video, frame by frame.

    was_cut   whether a new shot started with the last frame, or the tiles of a video call changed places: the frame changed
              as a whole and, if the frames are far apart, no face is at its place; or several persons moved
    """

    smoothing_s: float = TIME_CONSTANT_S
    tracker: Tracker = field(default_factory=Tracker)
    was_cut: bool = False
    _time_s: float = 0.0

    def __post_init__(self) -> None:
        self._smoother = Smoother(self.smoothing_s)

    def follow_faces(
        self, faces: Sequence[Face], time_s: float, was_cut: bool = False, picture: np.ndarray | YuvImage | None = None
    ) -> list[Face]:
        """Return the faces of the next frame with ``track`` and smoothed probabilities and label.

        was_cut: whether a new shot starts with this frame.
        picture: the frame, RGB uint8 (H, W, 3) or YUV; with it, persons that return are recognized by their appearance.
        """
        if was_cut:
            self.tracker.start_shot()
        boxes = np.array([face.box_xyxy for face in faces], np.float64).reshape(-1, 4)
        numbers = self.tracker.update(boxes, time_s, None if picture is None else appearance_embeddings(picture, boxes))
        is_sparse, self._time_s = time_s - self._time_s > SPARSE_S, time_s
        self.was_cut = (was_cut and not (is_sparse and self.tracker.stayed_count)) or self.tracker.moved_count > 1
        followed = []
        for face, number in zip(faces, numbers, strict=True):
            state = self._smoother.update(number, face.probabilities, time_s)
            steady = face.labels[state.label]
            followed.append(replace(face, track=number, smoothed=state.probabilities, smoothed_label=steady))
        self._smoother.forget_tracks(time_s - self.tracker.memory_s)
        return followed
