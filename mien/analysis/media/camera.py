"""A camera of this machine, read frame by frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fractions import Fraction

import cv2

from mien.analysis.media.video_reader import ALL_FRAMES, TIME_TOLERANCE_S, Sampling, VideoFrame
from mien.core.errors import MediaError


class CameraSource:
    """Read a camera of this machine with OpenCV. Times are seconds of the clock since the first frame.

    The interface is that of VideoSource; a camera is always live. Raises MediaError if the camera cannot be opened.
    """

    is_live = True
    is_cut_off = has_sound = has_large_frames = False
    size_bytes = duration_s = None
    has_rebuilt_times = False
    start_s = 0.0
    damage = ""
    time_base = Fraction(1, 1_000_000)

    def __init__(self, path: str, sampling: Sampling = ALL_FRAMES) -> None:
        self.path, self.sampling, self.analysis_start_s, self.end_s = path, sampling, sampling.from_s, 0.0
        self._camera = _open_camera(int(path.partition(":")[2]))
        if not self._camera.isOpened():
            raise MediaError(path, "is not there, or another program uses it", "connect it, or try camera:1")
        stated = self._camera.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(stated).limit_denominator(1001) if 1 <= stated <= 1000 else Fraction(30)

    def __enter__(self) -> CameraSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._camera.release()

    @property
    def analyzed_s(self) -> float | None:
        return None if self.sampling.to_s is None else self.sampling.to_s - self.sampling.from_s

    def frames(self, skip: int = 0, on_skipped: Callable[[], None] = lambda: None) -> Iterator[VideoFrame]:
        """Yield the RGB frames that ``sampling`` selects, until the camera stops or ``to_s`` is reached. ``skip`` is ignored."""
        began, index, due_s = 0.0, 0, self.sampling.from_s
        step = max(self.sampling.every_s, float(1 / self.rate))
        while True:
            is_read, picture = self._camera.read()
            if not index:  # the first picture may take seconds
                began = time.monotonic()
            time_s = time.monotonic() - began if index else 0.0
            if not is_read or (self.sampling.to_s is not None and time_s >= self.sampling.to_s):
                return
            if time_s >= due_s - TIME_TOLERANCE_S:
                if every_s := self.sampling.every_s:
                    due_s += (int((time_s - due_s) / every_s + 1e-6) + 1) * every_s
                self.end_s = time_s + step
                pts = round(time_s / self.time_base)
                yield VideoFrame(
                    index, pts, time_s, round(step / self.time_base), cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
                )
            index += 1


def _open_camera(number: int) -> cv2.VideoCapture:
    """Open a camera without OpenCV's messages about a missing one."""
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(number)
    finally:
        cv2.utils.logging.setLogLevel(before)
