"""Frames that a program makes itself: pairs of a time and a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import numpy as np
from PIL import Image

from mien.analysis.media.video_reader import ALL_FRAMES, TIME_TOLERANCE_S, Sampling, VideoFrame
from mien.core.errors import UsageError
from mien.core.pictures import convert_pillow, convert_to_rgb

#: Duration of the first frame, which has none before it.
FIRST_FRAME_S = 0.04

#: A time in seconds, and a picture as `Recognizer.analyze` takes it, but no path.
TimedPicture = tuple[float, np.ndarray | Image.Image]


class FrameSource:
    """Read frames from pairs (time in seconds, picture), as `VideoSource` reads those of a file.

    The times rise from any start; a player's time counts from the first. Pairs are taken one by one, when a frame is asked
    for. Like frames of a camera, each is shown for the time since the frame before it.
    """

    is_live = True
    is_cut_off = has_sound = has_large_frames = has_rebuilt_times = False
    size_bytes = duration_s = analyzed_s = None
    damage = ""
    time_base = Fraction(1, 1_000_000)
    rate = Fraction(25)

    def __init__(self, pairs: Iterable[TimedPicture], name: str, sampling: Sampling = ALL_FRAMES) -> None:
        self.path, self.sampling, self._pairs = name, sampling, iter(pairs)
        self.start_s, self.analysis_start_s, self.end_s = 0.0, sampling.from_s, 0.0

    def frames(self, skip: int = 0, on_skipped: Callable[[], None] = lambda: None) -> Iterator[VideoFrame]:
        """Yield the RGB frames that ``sampling`` selects. ``skip`` is ignored.

        Raises UsageError where a time does not rise, ValueError for an array that is no picture.
        """
        before: float | None = None
        due_s, every_s, to_s = self.sampling.from_s, self.sampling.every_s, self.sampling.to_s
        for index, (given, picture) in enumerate(self._pairs):
            time_s = float(given)
            if not index:
                self.start_s, self.analysis_start_s = time_s, time_s + self.sampling.from_s
            if not math.isfinite(time_s) or (before is not None and time_s <= before):
                problem = f"are {time_s:g} s after {before:g} s" if before is not None else f"begin with {time_s:g} s"
                raise UsageError("`frames`", f"{problem}", "give times in seconds that rise from frame to frame")
            before, passed_s = time_s, time_s - self.start_s
            if to_s is not None and passed_s >= to_s - 1e-9:
                return
            if passed_s < due_s - TIME_TOLERANCE_S:
                continue
            if every_s:
                due_s += (int((passed_s - due_s) / every_s + 1e-6) + 1) * every_s
            self.end_s = time_s + (every_s or FIRST_FRAME_S)
            image = convert_pillow(picture) if isinstance(picture, Image.Image) else convert_to_rgb(picture)
            length = round((every_s or FIRST_FRAME_S) / self.time_base)
            yield VideoFrame(index, round(time_s / self.time_base), time_s, length, image)
