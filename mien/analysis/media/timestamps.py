"""When decoded frames are shown: every frame gets a time, and the times rise."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av

#: Ticks are made no longer than this, so that a frame can be moved by less than another one lasts.
TICK_S = Fraction(1, 1000)

#: Presentation times are not believed where they fall so often among so many frames; damage makes them fall once.
MAX_FALLS, FALL_WINDOW = 3, 16


def stores_frame_times(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Whether a file stores when its frames are shown: AVI does not, where that is not the order of decoding."""
    return container.format.name != "avi" or not stream.codec_context.has_b_frames


#: FFmpeg keeps both sides of a fraction as integers of 32 bits.
MAX_INT32 = 2**31 - 1


#: What FFmpeg calls a frame that refers to a later one (AV_PICTURE_TYPE_B).
B_FRAME = 3


class Timestamps:
    """The presentation times of a stream's frames, in units of ``time_base``: the stream's own, or a whole part of it.

    Not every file has them. AVI stores none, nor do others in which pictures that are decoded late are shown early
    (B-frames) but whose packets are all said to be shown as they are decoded. FFmpeg then guesses, and wrongly. There a
    frame gets the time of the packet with which it came out of the decoder, less the time for which that keeps the first.
    Where presentation times keep falling while those of decoding rise, the latter are taken, as FFmpeg's best effort does.

    are_own   whether all times are the file's own
    """

    def __init__(self, stream: av.VideoStream, format_name: str, *, uses_arrival_times: bool = False) -> None:
        self._codec = stream.codec_context
        self._is_avi = format_name == "avi"
        stored = TICK_S if uses_arrival_times else stream.time_base or Fraction(1, 90000)
        self._scale = -(-stored // TICK_S)
        if (stored / self._scale).denominator > MAX_INT32:  # of a damaged file that counts in hours
            self._scale = 1
        self.time_base = stored / self._scale
        self._rounding = 2 * TICK_S / stored  # of files that keep milliseconds
        self.are_from_file = not uses_arrival_times
        self._offset: int | None = None  # presentation less decoding, where that is the same for all packets so far
        self._reorders = self._has_b = False
        self._start: int | None = None
        self._delay: int | None = None
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._pts_less_dts = 0
        self._falls: deque[bool] = deque(maxlen=FALL_WINDOW)

    def add_packet(self, packet: av.Packet[Any]) -> None:
        """Take note of a packet before it is decoded."""
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
        """A decoded frame's time; None where nothing says it, so that the frame is due when the one before it ends."""
        tick = self._frame_tick(frame)
        return None if tick is None else tick * self._scale

    def frame_duration(self, frame: av.VideoFrame) -> int:
        """How long it is said to last; 0 where nothing is said."""
        return frame.duration * self._scale

    def _frame_tick(self, frame: av.VideoFrame) -> int | None:
        if self._codec.has_b_frames and (self._is_avi or not self._reorders):
            if self._delay is None and frame.dts is not None and self._start is not None:
                self._delay = frame.dts - self._start
            self._has_b |= frame.pict_type == B_FRAME
            if not self._is_avi and not self._has_b and frame.pts is not None:
                return self._best_effort(frame.pts, frame.dts)  # nothing was reordered yet: its own time
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
