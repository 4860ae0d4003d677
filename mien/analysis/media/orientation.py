"""How a frame is to be turned and mirrored, as its display matrix says."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import av

#: Where a pixel is shown that was stored at (x, y): at (x, y).
UPRIGHT = (1, 0, 0, 1)

#: FFmpeg's number of the display matrix among the kinds of side data, and a number above all of them.
_DISPLAY_MATRIX, _KINDS = 6, 64


def find_orientation(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Signs (a, b, c, d) of a frame's display matrix: what was stored at (x, y) is shown at (ax + cy, bx + dy).

    PyAV 18 frees a color profile twice and knows no kind of side data above 27, and it builds all that a frame has at once.
    So a filter of FFmpeg first removes all but the matrix.
    """
    from av.error import BlockingIOError
    from av.sidedata.sidedata import SideDataContainer, Type

    graph = _matrix_filter(frame)
    graph.push(frame)
    try:
        alone = graph.pull()
    except BlockingIOError:  # the frame has no matrix, and did not come through
        return UPRIGHT
    # Not frame.side_data: a frame keeps that, and that its frame, so that both live until Python looks for such circles.
    matrix = SideDataContainer(alone)[Type.DISPLAYMATRIX]  # type: ignore[call-arg]  # missing in PyAV's stubs
    a, b, _, c, d = np.sign(np.frombuffer(cast(Any, matrix), np.int32)[:5]).tolist()
    return (a, b, c, d) if a * d or b * c else UPRIGHT


_CACHE = threading.local()


def _matrix_filter(frame: av.VideoFrame) -> av.filter.Graph:
    """Lets frames of this shape through that have a matrix, without what else they have; the last one is kept per thread."""
    from av.filter import Graph

    shape = frame.width, frame.height, frame.format.name
    if getattr(_CACHE, "shape", None) == shape:
        return _CACHE.graph
    graph = Graph()
    width, height, form = shape
    last = graph.add_buffer(width=width, height=height, format=cast(Any, form), time_base=Fraction(1, 1000))
    others = (f"mode=delete:type={kind}" for kind in range(_KINDS) if kind != _DISPLAY_MATRIX)
    for options in (f"mode=select:type={_DISPLAY_MATRIX}", *others):
        chosen = graph.add("sidedata", options)
        last.link_to(chosen)
        last = chosen
    last.link_to(graph.add("buffersink"))
    graph.configure()
    _CACHE.shape, _CACHE.graph = shape, graph
    return graph
