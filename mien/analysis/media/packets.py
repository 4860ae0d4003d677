"""The packets of a video stream, as they come: at a clock's pace or not, and what is missing between them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mien.analysis.media.timestamps import TICK_S

if TYPE_CHECKING:
    import av

#: Over these protocols pictures come as they are made, whoever waits; over others a file may come as fast as it is taken.
LIVE_PROTOCOLS = ("udp", "rtp", "rtsp", "rtsps", "rtmp", "rtmps", "rtmpt", "srt")

#: Formats that are live where they do not say how long they are: lists of pieces that grow, and pictures pushed to browsers.
LIVE_FORMATS = ("hls", "dash", "mpjpeg")

#: A source of unknown length is watched for so long, or for so many bytes; it has a clock where its own times advance at most
#: so many times as fast as ours. What was gathered before it was opened comes in a burst, and is not measured.
PROBE_S, PROBE_BYTES, BURST_S, MAX_LIVE_PACE = 2.0, 64_000_000, 0.5, 1.25

#: A packet that was waited for less was there already.
MIN_WAIT_S = 0.005

#: Formats that go on behind what they cannot read, without a word about what they left out.
RESYNCING_FORMATS = ("matroska,webm", "flv", "ogg", "asf")

#: Between packets lie heads and paddings; so many bytes, and twice as many as elsewhere in the file, are lost packets.
MIN_LOST_BYTES = 1000


class PacketReader:
    """Packets of one stream, in order, the last one empty so that the decoder gives what it holds. Read once.

    error      what FFmpeg said where it could not read on
    is_live    whether they come at a clock's pace, so that who is slow misses some
    by_clock   whether they carry the time at which they arrived, since such a stream has no times of its own; then in
               units of TICK_S from 0 on
    gaps       (start, end) in seconds of the stream's times between which pictures are missing
    """

    def __init__(
        self, container: av.container.InputContainer, stream: av.VideoStream, path: Path | str, opening_s: float
    ) -> None:
        """opening_s: how long the source took to be opened."""
        self._container, self._stream = container, stream
        self._resumes = isinstance(path, Path) and container.format.name in RESYNCING_FORMATS
        self._began = time.monotonic() - opening_s
        self._waiting: deque[tuple[av.Packet[Any], float, bool]] = deque()
        self._incoming = self._read_packets()
        self._gaps = _GapDetector(stream)
        self.gaps = self._gaps.found
        self.is_live = self.uses_arrival_times = False
        self.error: av.error.FFmpegError | None = None
        if isinstance(path, str) and not container.duration:
            self._detect_live(path.partition(":")[0].lower())

    def __iter__(self) -> Iterator[av.Packet[Any]]:
        first = None
        for packet, arrived, _ in self._all_packets():
            if self.uses_arrival_times and packet.size:
                first = arrived if first is None else first
                packet.pts = packet.dts = round((arrived - first) / TICK_S)
                packet.duration = 0
            yield packet

    def read_single_picture(self) -> bytes | None:
        """The one packet's bytes where no second one comes; else None. To be asked before the packets are read."""
        self._waiting.extend(islice(self._incoming, 2 - len(self._waiting)))
        pictures = [packet for packet, *_ in self._waiting if packet.size]
        return bytes(pictures[0]) if len(pictures) == 1 else None

    def _all_packets(self) -> Iterator[tuple[av.Packet[Any], float, bool]]:
        while self._waiting:
            yield self._waiting.popleft()
        yield from self._incoming

    def _read_packets(self) -> Iterator[tuple[av.Packet[Any], float, bool]]:
        """Each packet, when it came by our clock since the source began to be opened, and whether it was waited for."""
        import av

        packets: Iterator[Any] = self._container.demux() if self._resumes else self._container.demux(self._stream)
        while self.error is None:
            before = time.monotonic()
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                self.error, packet = error, av.Packet()
                packet.stream = self._stream
            if packet is None:
                return
            if self._resumes:
                self._gaps.update(packet)
            if packet.stream is self._stream:  # an empty packet has no index
                now = time.monotonic()
                yield packet, now - self._began, now - before > MIN_WAIT_S

    def _detect_live(self, scheme: str) -> None:
        """Whether a source of unknown length is live, and whether the clock is to tell its times."""
        import av

        name, flags = self._container.format.name, self._container.format.flags
        stamped = not flags & cast(int, av.format.Flags.no_timestamps.value)
        clocked = scheme in LIVE_PROTOCOLS or name in LIVE_FORMATS
        if not clocked and self._container.size > 0:  # of a file the server says how long it is
            return
        self.is_live = clocked
        if not clocked or not stamped:
            ended, is_paced = self._probe_pace()
            self.is_live = (clocked or is_paced) and not ended
            self.uses_arrival_times = not stamped and (name == "mpjpeg" or is_paced)
        if self.uses_arrival_times:
            self._spread_burst()

    def _probe_pace(self) -> tuple[bool, bool]:
        """Read for a while: whether the source ended meanwhile, and whether its own times advance as our clock does."""
        until, size, seen, ended = time.monotonic() + PROBE_S, 0, [], True
        for packet, arrived, waited in self._incoming:
            self._waiting.append((packet, arrived, waited))
            size += packet.size
            if packet.dts is not None:
                seen.append((arrived, float(packet.dts * packet.time_base)))
            if time.monotonic() > until or size > PROBE_BYTES:
                ended = False
                break
        steady = [(arrived, media) for arrived, media in seen if arrived > seen[0][0] + BURST_S]
        if ended or len(steady) < 2:
            steady = seen
        if len(steady) < 2:
            return ended, not ended
        passed, advanced = (last - first for first, last in zip(steady[0], steady[-1], strict=True))
        return ended, advanced < MAX_LIVE_PACE * passed

    def _spread_burst(self) -> None:
        """What was there when the source was open came while it was opened: evenly, as far as anyone knows."""
        there = 0
        while there < len(self._waiting) and not self._waiting[there][2]:
            there += 1
        for index in range(there):
            packet, arrived, waited = self._waiting[index]
            self._waiting[index] = packet, arrived * (index + 1) / there, waited


class _GapDetector:
    """Finds where bytes of a file were passed over and, with them, pictures."""

    def __init__(self, stream: av.VideoStream) -> None:
        self._index = stream.index
        rate = stream.average_rate or stream.guessed_rate
        self._step_s = float(1 / rate) if rate else 0.04
        self._steps: deque[float] = deque([self._step_s], maxlen=30)
        self._bytes_end: int | None = None
        self._usual = 0
        self._lost = 0  # for so many more packets a gap is due to bytes that were passed over
        self._latest_s: float | None = None
        self.found: list[tuple[float, float]] = []

    def update(self, packet: av.Packet[Any]) -> None:
        if packet.pos is not None and packet.size:
            self._update_byte_position(packet.pos, packet.pos + packet.size)
        if packet.stream_index != self._index or packet.pts is None:
            return
        time_s = float(packet.pts * packet.time_base)
        step_s = 0.0 if self._latest_s is None else time_s - self._latest_s
        if self._latest_s is not None and self._lost and step_s > 1.5 * max(self._steps):
            self.found.append((self._latest_s + self._step_s, time_s))
        elif step_s > 0:
            self._steps.append(step_s)
        self._lost = max(0, self._lost - 1)
        self._latest_s = time_s if self._latest_s is None else max(self._latest_s, time_s)

    def _update_byte_position(self, start: int, end: int) -> None:
        if self._bytes_end is not None:
            between = start - self._bytes_end
            if between > max(MIN_LOST_BYTES, 2 * self._usual):
                self._lost = 2  # of Ogg, the first packet behind gets the time of the first lost one
            else:
                self._usual = max(self._usual, between)
        self._bytes_end = end if self._bytes_end is None else max(end, self._bytes_end)
