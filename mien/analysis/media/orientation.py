"""Find how a frame must be rotated and mirrored, from its display matrix."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import av

#: The orientation of a frame that is stored as it is shown.
UPRIGHT = (1, 0, 0, 1)

#: FFmpeg's number of the display matrix among the types of side data, and a number above all types.
_DISPLAY_MATRIX, _KINDS = 6, 64


def find_orientation(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return the signs (a, b, c, d) of a frame's display matrix: the pixel (x, y) is shown at (ax + cy, bx + dy).

    PyAV 18 frees a color profile twice, knows no type of side data above 27, and builds all side data of a frame at once.
    So an FFmpeg filter first removes all side data except the matrix.
    """
    from av.error import BlockingIOError
    from av.sidedata.sidedata import SideDataContainer, Type

    graph = _matrix_filter(frame)
    graph.push(frame)
    try:
        alone = graph.pull()
    except BlockingIOError:  # the filter drops frames without a matrix
        return UPRIGHT
    # Not frame.side_data: frame and side data would refer to each other, and stay in memory until Python's garbage collection.
    matrix = SideDataContainer(alone)[Type.DISPLAYMATRIX]  # type: ignore[call-arg]  # missing in PyAV's stubs
    a, b, _, c, d = np.sign(np.frombuffer(cast(Any, matrix), np.int32)[:5]).tolist()
    return (a, b, c, d) if a * d or b * c else UPRIGHT


_CACHE = threading.local()


def _matrix_filter(frame: av.VideoFrame) -> av.filter.Graph:
    """Return a filter that passes frames of this size with a display matrix, and removes all other side data.

    The last filter is cached per thread.
    """
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
