"""Determine the presentation times of decoded frames."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av

#: Maximum length of a tick in seconds, so that a corrected time stamp moves by less than a frame.
TICK_S = Fraction(1, 1000)

#: Presentation times are invalid if they decrease MAX_FALLS times within FALL_WINDOW frames; damage decreases them once.
MAX_FALLS, FALL_WINDOW = 3, 16


def stores_frame_times(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Whether a file stores presentation times: AVI with B-frames does not."""
    return container.format.name != "avi" or not stream.codec_context.has_b_frames


#: FFmpeg stores numerator and denominator of a fraction as 32-bit integers.
MAX_INT32 = 2**31 - 1


#: FFmpeg's AV_PICTURE_TYPE_B: a frame that refers to a later one.
B_FRAME = 3


class Timestamps:
    """Determine the presentation times of a stream's frames, in units of ``time_base``.

    ``time_base`` is the stream's time base or an integer fraction of it.

    Some files lack valid presentation times, and FFmpeg's guess is wrong: AVI stores none, and other files with B-frames
    give all packets the presentation time of the decoding order. Their frames get the decoding time of the packet with
    which they leave the decoder, minus the decoder's delay. If presentation times keep decreasing while decoding times
    increase, the decoding times are used, as in FFmpeg's best effort.

    are_from_file   whether all times are the file's own
    """

    def __init__(self, stream: av.VideoStream, format_name: str, *, uses_arrival_times: bool = False) -> None:
        self._codec = stream.codec_context
        self._is_avi = format_name == "avi"
        stored = TICK_S if uses_arrival_times else stream.time_base or Fraction(1, 90000)
        self._scale = -(-stored // TICK_S)
        if (stored / self._scale).denominator > MAX_INT32:  # a damaged file with a tick of hours
            self._scale = 1
        self.time_base = stored / self._scale
        self._rounding = 2 * TICK_S / stored  # for files with time stamps in milliseconds
        self.are_from_file = not uses_arrival_times
        self._offset: int | None = None  # presentation minus decoding time of the packets so far
        self._reorders = self._has_b = False
        self._start: int | None = None
        self._delay: int | None = None
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._pts_less_dts = 0
        self._falls: deque[bool] = deque(maxlen=FALL_WINDOW)

    def add_packet(self, packet: av.Packet[Any]) -> None:
        """Add a packet before it is decoded."""
        times = [time for time in (packet.pts, packet.dts) if time is not None]
        if not times:
            return
        first = min(times) if self._is_avi else times[0]
        self._start = first if self._start is None else min(self._start, first)
        if packet.pts is not None and packet.dts is not None:
            offset = packet.pts - packet.dts
            self._offset = offset if self._offset is None else self._offset
            self._reorders |= abs(offset - self._offset) > self._rounding

    def frame_pts(self, frame: av.VideoFrame) -> int | None:
        """Return the presentation time of a decoded frame; None if it is unknown: the frame follows the one before it."""
        tick = self._frame_tick(frame)
        return None if tick is None else tick * self._scale

    def frame_duration(self, frame: av.VideoFrame) -> int:
        """Return the stated duration of a frame; 0 if it is unknown."""
        return frame.duration * self._scale

    def _frame_tick(self, frame: av.VideoFrame) -> int | None:
        if self._codec.has_b_frames and (self._is_avi or not self._reorders):
            if self._delay is None and frame.dts is not None and self._start is not None:
                self._delay = frame.dts - self._start
            self._has_b |= frame.pict_type == B_FRAME
            if not self._is_avi and not self._has_b and frame.pts is not None:
                return self._best_effort(frame.pts, frame.dts)  # no reordering so far: the frame's own time
            if frame.dts is None or self._delay is None:
                return None
            tick = frame.dts - self._delay
            self.are_from_file &= tick == frame.pts
            return tick
        return self._best_effort(frame.pts, frame.dts)

    def _best_effort(self, pts: int | None, dts: int | None) -> int | None:
        falls = self._last_pts is not None and pts is not None and pts <= self._last_pts
        rises = self._last_dts is not None and dts is not None and dts > self._last_dts
        self._falls.append(falls and rises)
        self._last_pts = self._last_pts if pts is None else pts
        self._last_dts = self._last_dts if dts is None else dts
        if sum(self._falls) < MAX_FALLS:
            if not falls and pts is not None and dts is not None:
                self._pts_less_dts = pts - dts
            return pts
        self.are_from_file = False
        return None if dts is None else dts + self._pts_less_dts
