"""Read animated pictures (GIF, WebP, APNG, AVIF) frame by frame, as videos."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from PIL import Image

from mien.analysis.media.container import MAX_FRAME_PIXELS, check_frame_size
from mien.analysis.media.video_reader import ALL_FRAMES, TIME_TOLERANCE_S, Sampling, VideoFrame
from mien.core.errors import MediaError
from mien.core.picture_formats import ANIMATED_FORMATS
from mien.core.pictures import DECODING_ERRORS, convert_pillow

#: Frames with a duration of at most the first last the second, as in browsers: in old files 0 means "as fast as possible".
INSTANT_MS, DEFAULT_MS = 10, 100


class AnimationSource:
    """Read an animated picture frame by frame, with transparency on white. It is played once; its loop count is ignored.

    The interface is that of VideoSource; times start at 0. Raises MediaError for a file that cannot be read.
    """

    is_live = has_rebuilt_times = has_sound = has_large_frames = False
    start_s = 0.0
    duration_s: float | None = None  # unknown: the sum of all frames
    time_base = Fraction(1, 90_000)

    def __init__(self, path: Path, sampling: Sampling = ALL_FRAMES, max_pixels: int = MAX_FRAME_PIXELS) -> None:
        self.path, self.sampling, self.analysis_start_s = path, sampling, sampling.from_s
        self.size_bytes = path.stat().st_size
        self.end_s, self.is_cut_off, self.damage = 0.0, False, ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's warning about large pictures; they are refused below
                self._picture = Image.open(path, formats=sorted(ANIMATED_FORMATS))
            self.size_wh = self._picture.size
            check_frame_size(*self.size_wh, path, max_pixels)
            self.rate = Fraction(1000, round(_frame_duration_ms(self._picture)))
        except Image.DecompressionBombError as error:
            raise MediaError(path, f"has more than {max_pixels:,} pixels", "scale it down") from error
        except (OSError, *DECODING_ERRORS) as error:
            raise MediaError(path, f"is broken ({error})", "copy or export it again") from error

    def __enter__(self) -> AnimationSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._picture.close()

    @property
    def analyzed_s(self) -> float | None:
        return None if self.sampling.to_s is None else self.sampling.to_s - self.sampling.from_s

    def frames(self, skip: int = 0, on_skipped: Callable[[], None] = lambda: None) -> Iterator[VideoFrame]:
        """Yield the RGB frames that ``sampling`` selects, without the first ``skip``; see ``VideoSource.frames``."""
        held, number = None, -1
        for number, chosen in enumerate(self._sampled_frames()):
            if held is not None and number > skip:
                yield replace(held, duration=chosen.pts - held.pts)
            elif held is not None:
                on_skipped()
            held = chosen
        if held is not None and number >= skip:
            yield replace(held, duration=max(1, self._end - held.pts))

    def _sampled_frames(self) -> Iterator[VideoFrame]:
        due_s, every_s, to_s = self.analysis_start_s, self.sampling.every_s, self.sampling.to_s
        for frame in self._timed_frames():
            if to_s is not None and frame.time_s >= to_s - 1e-9:
                self._end = round(to_s / self.time_base)
                return
            self._end = frame.pts + frame.duration
            if frame.time_s < due_s - TIME_TOLERANCE_S:
                continue
            if every_s:
                due_s += (int((frame.time_s - due_s) / every_s + 1e-6) + 1) * every_s
            yield frame

    def _timed_frames(self) -> Iterator[VideoFrame]:
        """Yield every readable frame; set ``damage`` if the file breaks off."""
        picture, ms = self._picture, 0.0
        first = 1 if picture.info.get("default_image") else 0  # APNG: shown by programs without support for animations
        index = 0
        try:
            while True:
                picture.seek(first + index)
                picture.load()
                pts, length = round(ms * 90), _frame_duration_ms(picture)
                ms += length
                self.end_s = ms / 1000
                yield VideoFrame(index, pts, pts / 90_000, max(1, round(ms * 90) - pts), convert_pillow(picture))
                index += 1
        except EOFError:
            pass  # the last frame was read
        except (OSError, *DECODING_ERRORS) as error:
            self.is_cut_off, self.damage = True, f"the file cannot be read after {ms / 1000:.2f} s ({error})"
        if not index:
            raise MediaError(self.path, "holds no frame that can be decoded", "copy or export it again")


def _frame_duration_ms(picture: Image.Image) -> float:
    """Return the duration of the current frame."""
    stated_ms = picture.info.get("duration") or 0
    return float(stated_ms) if stated_ms > INSTANT_MS else DEFAULT_MS
