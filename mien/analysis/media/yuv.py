"""Frames as videos hold them: brightness at full size, colors at half of it. RGB is made only where somebody looks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import cv2
import numpy as np

from mien.analysis.media.orientation import UPRIGHT, find_orientation
from mien.analysis.media.tone_mapping import is_hdr
from mien.analysis.prefetch import threads_per_stage

if TYPE_CHECKING:
    import av

#: FFmpeg's numbers of matrices → the weights of red and blue in brightness: ITU-R BT.709, and BT.601 under two numbers.
#: 2 is "not stated", which FFmpeg and we read as BT.601.
_RED_BLUE_WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 5: (0.299, 0.114), 6: (0.299, 0.114)}

#: FFmpeg's numbers of what brightness spans: 16..235, or 0..255.
_VIDEO_RANGE, _FULL_RANGE = 1, 2


@dataclass(frozen=True)
class ColorSpec:
    """What a video says of its colors, in FFmpeg's numbers; 2 is "not stated"."""

    matrix: int
    primaries: int
    transfer: int


#: ITU-R BT.709 throughout: what players assume of H.264.
BT709 = ColorSpec(1, 1, 1)


class Area(NamedTuple):
    """Pixels from left, top to right, bottom, which are no longer part of it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def halve(self) -> Area:
        """The same where two pixels are one; what is half covered belongs to it."""
        return Area(self.left // 2, self.top // 2, -(-self.right // 2), -(-self.bottom // 2))


class YuvImage:
    """A frame in YUV 4:2:0 with even sides, in FFmpeg's own buffers. What a decoder gave is not to be written to.

    brightness   uint8 (H, W), 16..235
    colors      two uint8 (H/2, W/2), 16..240 around 128: what blue and red are more than brightness
    said         how they are meant
    """

    def __init__(self, frame: av.VideoFrame, said: ColorSpec) -> None:
        self.frame, self.color_spec = frame, said
        self.luma, *self.chroma = (
            np.frombuffer(cast(Any, plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            for plane in frame.planes
        )

    @classmethod
    def from_frame(cls, frame: av.VideoFrame) -> YuvImage | None:
        """A decoded frame's, where it is of the kind that is spoken of here; nothing is copied. Else None."""
        said = ColorSpec(frame.colorspace, frame.color_primaries, frame.color_trc)
        fits = (
            frame.format.name == "yuv420p"
            and int(frame.color_range) != _FULL_RANGE
            and said.matrix in _RED_BLUE_WEIGHTS
        )
        fits = fits and not is_hdr(said.transfer)
        upright = find_orientation(frame) == UPRIGHT and frame.width % 2 == 0 and frame.height % 2 == 0
        if not (fits and upright and all(plane.line_size > 0 for plane in frame.planes)):  # below 0: bottom row first
            return None
        planes = cls(frame, said)
        for plane in (planes.luma, *planes.chroma):
            plane.flags.writeable = False  # the decoder looks back at them
        return planes

    @classmethod
    def from_rgb(cls, picture: np.ndarray, said: ColorSpec = BT709) -> YuvImage:
        """RGB uint8 (H, W, 3) with even sides. FFmpeg's own conversion takes several times as long."""
        planes = cls._allocate(picture.shape[0], picture.shape[1], said)
        planes.write_rgb(picture, Area(0, 0, picture.shape[1], picture.shape[0]))
        return planes

    @classmethod
    def _allocate(cls, height: int, width: int, said: ColorSpec) -> YuvImage:
        import av

        frame = av.VideoFrame(width, height, "yuv420p")
        frame.colorspace, frame.color_primaries, frame.color_trc = said.matrix, said.primaries, said.transfer
        frame.color_range = _VIDEO_RANGE
        return cls(frame, said)

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of the RGB picture."""
        return (*self.luma.shape, 3)

    @property
    def nbytes(self) -> int:
        return self.luma.nbytes * 3 // 2

    def copy(self) -> YuvImage:
        """The same in buffers of its own."""
        height, width = self.luma.shape
        twin = self._allocate(height, width, self.color_spec)
        for mine, theirs in zip((self.luma, *self.chroma), (twin.luma, *twin.chroma), strict=True):
            theirs[:] = mine
        return twin

    def to_small_rgb(self, min_side_px: int) -> np.ndarray:
        """RGB uint8, its sides halved as often as the longest stays ``least`` or more; shrinking ``rgb()`` costs several times as much."""
        brightness: np.ndarray = self.luma
        colors: list[np.ndarray] = list(self.chroma)
        while max(brightness.shape) >= 2 * min_side_px:
            brightness = _halve(brightness)
            size_wh = brightness.shape[1], brightness.shape[0]
            colors = [cv2.resize(plane, size_wh, interpolation=cv2.INTER_AREA) for plane in colors]
        if brightness is self.luma:
            return self.to_rgb()
        return _yuv_to_rgb(brightness, colors, self.color_spec)

    def to_rgb(self) -> np.ndarray:
        """All of it as RGB uint8 (H, W, 3), made anew each time."""
        from av.video.reformatter import VideoReformatter

        # One of our own: the frame would keep its converter, which holds megabytes, for as long as it waits its turn.
        converted = VideoReformatter().reformat(self.frame, format="rgb24", threads=threads_per_stage())
        return np.ascontiguousarray(converted.to_ndarray())

    def area_to_rgb(self, area: Area) -> np.ndarray:
        """Some of it as RGB uint8 (h, w, 3); the area's numbers are even."""
        half = area.halve().slices
        size_wh = area.right - area.left, area.bottom - area.top
        colors = [cv2.resize(plane[half], size_wh, interpolation=cv2.INTER_NEAREST) for plane in self.chroma]
        return _yuv_to_rgb(self.luma[area.slices], colors, self.color_spec)

    def write_rgb(self, picture: np.ndarray, area: Area) -> None:
        """Write RGB uint8 (h, w, 3) there; the area's numbers are even."""
        height, width = picture.shape[:2]
        whole = cv2.transform(
            picture, _conversion_matrices(self.color_spec.matrix)[0]
        )  # all three at once: OpenCV is slow at fewer
        half = cv2.resize(whole, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        self.luma[area.slices] = whole[..., 0]
        for channel, plane in enumerate(self.chroma, 1):
            plane[area.halve().slices] = half[..., channel]

    def crop(self, area: Area, size: int) -> np.ndarray:
        """The area scaled to RGB uint8 (size, size, 3); the border goes on beyond it.

        From an odd corner the colors are up to a pixel off.
        """
        colors = [crop_area(plane, area.halve(), size) for plane in self.chroma]
        return _yuv_to_rgb(crop_area(self.luma, area, size), colors, self.color_spec)

    def to_gray(self, max_side_px: int) -> np.ndarray:
        """Brightness uint8, 0..255, its sides halved until none is longer than ``most``."""
        small = halve_to_fit(self.luma, max_side_px)
        return cv2.convertScaleAbs(cv2.subtract(small, cast(Any, 16)), alpha=255 / 219)


@dataclass(frozen=True)
class FrameFormat:
    """Pixels, even both, and what is said of the colors: one for all parts of a video."""

    width: int
    height: int
    color_spec: ColorSpec

    @classmethod
    def from_image(cls, image: np.ndarray | YuvImage) -> FrameFormat:
        """That of a video whose first frame this is; RGB is written as BT.709."""
        height, width = image.shape[:2]
        return cls(width + width % 2, height + height % 2, image.color_spec if isinstance(image, YuvImage) else BT709)


def crop_area(picture: np.ndarray, area: Area, size: int) -> np.ndarray:
    """An area of uint8 (H, W[, 3]) scaled to (size, size[, 3]); beyond the border, the border goes on."""
    height, width = picture.shape[:2]
    left, top, right, bottom = area
    inside = picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    over = max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0)
    if any(over):
        inside = cv2.copyMakeBorder(inside, *over, borderType=cv2.BORDER_REPLICATE)
    shrinks = min(inside.shape[:2]) >= size
    return cv2.resize(inside, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def halve_to_fit(picture: np.ndarray, max_side_px: int) -> np.ndarray:
    """Its sides halved until none is longer than ``most``. Halving is quick, other scales are not."""
    while max(picture.shape[:2]) > max_side_px:
        picture = _halve(picture)
    return picture


def _halve(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return cv2.resize(picture, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)


def image_to_rgb(picture: np.ndarray | YuvImage) -> np.ndarray:
    """RGB uint8 (H, W, 3) of a frame that may be either."""
    return picture.to_rgb() if isinstance(picture, YuvImage) else picture


def _yuv_to_rgb(brightness: np.ndarray, colors: list[np.ndarray], said: ColorSpec) -> np.ndarray:
    return cv2.transform(cv2.merge([brightness, *colors]), _conversion_matrices(said.matrix)[1])


@lru_cache
def _conversion_matrices(number: int) -> tuple[np.ndarray, np.ndarray]:
    """(R, G, B, 1 in 0..255 → Y, U, V; Y, U, V, 1 → R, G, B), both float64 (3, 4), for brightness in 16..235."""
    red, blue = _RED_BLUE_WEIGHTS[number]
    light = np.array([red, 1 - red - blue, blue])
    rows = [
        light * 219,
        (np.array([0, 0, 1]) - light) / (2 * (1 - blue)) * 224,
        (np.array([1, 0, 0]) - light) / (2 * (1 - red)) * 224,
    ]
    there, offset = np.array(rows) / 255, np.array([16, 128, 128])
    back = np.linalg.inv(there)
    return np.column_stack([there, offset]), np.column_stack([back, -back @ offset])
