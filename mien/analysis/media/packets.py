"""Read the packets of a video stream, detect live sources, and find gaps between packets."""

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

#: Protocols that deliver in real time. Others may also deliver a file as fast as it is read.
LIVE_PROTOCOLS = ("udp", "rtp", "rtsp", "rtsps", "rtmp", "rtmps", "rtmpt", "srt")

#: Formats that are live if they state no duration: growing playlists, and JPEG pictures pushed to browsers.
LIVE_FORMATS = ("hls", "dash", "mpjpeg")

#: A source of unknown length is read for this many seconds or bytes. It is live if its time stamps advance at most this many
#: times as fast as the clock. Packets of the first BURST_S were buffered before, and are not measured.
PROBE_S, PROBE_BYTES, BURST_S, MAX_LIVE_PACE = 2.0, 64_000_000, 0.5, 1.25

#: A packet that took less to read was buffered.
MIN_WAIT_S = 0.005

#: Formats whose demuxers skip damaged parts without an error.
RESYNCING_FORMATS = ("matroska,webm", "flv", "ogg", "asf")

#: Bytes between two packets that mean lost packets, if they are also twice as many as the largest gap of headers so far.
MIN_LOST_BYTES = 1000


class PacketReader:
    """Iterate once over the packets of one stream; the last packet is empty and flushes the decoder.

    error               FFmpeg's error if reading stopped early
    is_live             whether the source delivers in real time, so that a slow reader loses packets
    uses_arrival_times  whether the time stamps are the arrival times, since the stream has none; in units of TICK_S from 0
    gaps                (start, end) of missing pictures, in seconds of the stream's time stamps
    """

    def __init__(
        self, container: av.container.InputContainer, stream: av.VideoStream, path: Path | str, opening_s: float
    ) -> None:
        """opening_s: seconds that opening the source took."""
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
        """Return the bytes of the only packet; None if buffered are more. Call it before iterating."""
        self._waiting.extend(islice(self._incoming, 2 - len(self._waiting)))
        pictures = [packet for packet, *_ in self._waiting if packet.size]
        return bytes(pictures[0]) if len(pictures) == 1 else None

    def _all_packets(self) -> Iterator[tuple[av.Packet[Any], float, bool]]:
        while self._waiting:
            yield self._waiting.popleft()
        yield from self._incoming

    def _read_packets(self) -> Iterator[tuple[av.Packet[Any], float, bool]]:
        """Yield (packet, seconds from opening the source to its arrival, whether the reader waited for it)."""
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
        """Set ``is_live`` and ``uses_arrival_times`` of a source of unknown length."""
        import av

        name, flags = self._container.format.name, self._container.format.flags
        stamped = not flags & cast(int, av.format.Flags.no_timestamps.value)
        is_real_time = scheme in LIVE_PROTOCOLS or name in LIVE_FORMATS
        if not is_real_time and self._container.size > 0:  # a server states the size of a file
            return
        self.is_live = is_real_time
        if not is_real_time or not stamped:
            ended, is_paced = self._probe_pace()
            self.is_live = (is_real_time or is_paced) and not ended
            self.uses_arrival_times = not stamped and (name == "mpjpeg" or is_paced)
        if self.uses_arrival_times:
            self._spread_burst()

    def _probe_pace(self) -> tuple[bool, bool]:
        """Read for PROBE_S seconds → (whether the source ended, whether its time stamps advance in real time)."""
        until, size, samples, ended = time.monotonic() + PROBE_S, 0, [], True
        for packet, arrived, waited in self._incoming:
            self._waiting.append((packet, arrived, waited))
            size += packet.size
            if packet.dts is not None:
                samples.append((arrived, float(packet.dts * packet.time_base)))
            if time.monotonic() > until or size > PROBE_BYTES:
                ended = False
                break
        measured = [(arrived, media) for arrived, media in samples if arrived > samples[0][0] + BURST_S]
        if ended or len(measured) < 2:
            measured = samples
        if len(measured) < 2:
            return ended, not ended
        passed, advanced = (last - first for first, last in zip(measured[0], measured[-1], strict=True))
        return ended, advanced < MAX_LIVE_PACE * passed

    def _spread_burst(self) -> None:
        """Distribute the arrival times of the packets that were buffered on opening evenly over that time."""
        buffered = 0
        while buffered < len(self._waiting) and not self._waiting[buffered][2]:
            buffered += 1
        for index in range(buffered):
            packet, arrived, waited = self._waiting[index]
            self._waiting[index] = packet, arrived * (index + 1) / buffered, waited


class _GapDetector:
    """Find skipped bytes of a file, and the pictures that are missing there."""

    def __init__(self, stream: av.VideoStream) -> None:
        self._index = stream.index
        rate = stream.average_rate or stream.guessed_rate
        self._step_s = float(1 / rate) if rate else 0.04
        self._steps: deque[float] = deque([self._step_s], maxlen=30)
        self._bytes_end: int | None = None
        self._usual = 0
        self._lost = 0  # a gap within this many packets is due to skipped bytes
        self._latest_s: float | None = None
        self.found: list[tuple[float, float]] = []

    def update(self, packet: av.Packet[Any]) -> None:
        """Add the next packet of the file."""
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
                self._lost = 2  # in Ogg, the first packet after a gap has the time stamp of the first lost one
            else:
                self._usual = max(self._usual, between)
        self._bytes_end = end if self._bytes_end is None else max(end, self._bytes_end)
