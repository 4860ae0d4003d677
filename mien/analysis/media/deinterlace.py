"""Deinterlace frames, whose odd and even lines were recorded one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import av


def deinterlace_frames(frames: Iterable[av.VideoFrame], time_base: Fraction) -> Iterator[av.VideoFrame]:
    """Yield one frame for each decoded frame, at the same time stamp, deinterlaced with FFmpeg's bwdif filter.

    The filter starts at the first interlaced frame and leaves progressive frames unchanged. It holds three frames.

    time_base   unit of the time stamps, in seconds
    """
    graph = shape = None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        if graph is None or (frame.width, frame.height, frame.format.name) != shape:
            if graph is not None:
                yield from _pull_frames(graph, time_base, last=True)
            shape = frame.width, frame.height, frame.format.name
            graph = _build_graph(frame, time_base)
        graph.push(frame)
        yield from _pull_frames(graph, time_base)
    if graph is not None:
        yield from _pull_frames(graph, time_base, last=True)


def _build_graph(frame: av.VideoFrame, time_base: Fraction) -> av.filter.Graph:
    """Return a bwdif filter for frames of this size and format."""
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base)
    fill = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    source.link_to(fill)
    fill.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def _pull_frames(graph: av.filter.Graph, time_base: Fraction, last: bool = False) -> Iterator[av.VideoFrame]:
    """Yield the frames that are ready, with time stamps in units of ``time_base``: the filter halves the unit."""
    from av.error import BlockingIOError, EOFError

    if last:
        graph.push(None)
    while True:
        try:
            frame = cast("av.VideoFrame", graph.pull())
        except (BlockingIOError, EOFError):
            return
        scale = cast(Fraction, frame.time_base) / time_base
        if frame.pts is not None:
            frame.pts = round(frame.pts * scale)
        frame.duration, frame.time_base = round(frame.duration * scale), time_base
        yield frame
