"""Frames in YUV 4:2:0, as videos store them. They are converted to RGB only where needed."""

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

#: FFmpeg's numbers of matrices → weights of red and blue in luma: ITU-R BT.709, and BT.601 under two numbers.
#: 2 is "unspecified", which means BT.601 here as in FFmpeg.
_RED_BLUE_WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 5: (0.299, 0.114), 6: (0.299, 0.114)}

#: FFmpeg's numbers of the luma range: 16..235, or 0..255.
_VIDEO_RANGE, _FULL_RANGE = 1, 2


@dataclass(frozen=True)
class ColorSpec:
    """The color description of a video, in FFmpeg's numbers; 2 is "unspecified"."""

    matrix: int
    primaries: int
    transfer: int


#: ITU-R BT.709, which players assume for H.264.
BT709 = ColorSpec(1, 1, 1)


class Area(NamedTuple):
    """A rectangle of pixels; ``right`` and ``bottom`` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the area in an array (H, W[, C])."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def halve(self) -> Area:
        """Return the area in an image of half the size; pixels that are partly covered are included."""
        return Area(self.left // 2, self.top // 2, -(-self.right // 2), -(-self.bottom // 2))


class YuvImage:
    """A frame in YUV 4:2:0 with even sides, in FFmpeg's own buffers. Do not write to the buffers of a decoder.

    luma         uint8 (H, W), 16..235
    chroma       two uint8 (H/2, W/2), 16..240 around 128: differences of blue and red from luma
    color_spec   color description of the frame
    """

    def __init__(self, frame: av.VideoFrame, color_spec: ColorSpec) -> None:
        self.frame, self.color_spec = frame, color_spec
        self.luma, *self.chroma = (
            np.frombuffer(cast(Any, plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            for plane in frame.planes
        )

    @classmethod
    def from_frame(cls, frame: av.VideoFrame) -> YuvImage | None:
        """Wrap a decoded frame without a copy. Returns None unless it is upright YUV 4:2:0 in video range with even sides."""
        color_spec = ColorSpec(frame.colorspace, frame.color_primaries, frame.color_trc)
        fits = (
            frame.format.name == "yuv420p"
            and int(frame.color_range) != _FULL_RANGE
            and color_spec.matrix in _RED_BLUE_WEIGHTS
        )
        fits = fits and not is_hdr(color_spec.transfer)
        upright = find_orientation(frame) == UPRIGHT and frame.width % 2 == 0 and frame.height % 2 == 0
        if not (fits and upright and all(plane.line_size > 0 for plane in frame.planes)):  # negative: bottom row first
            return None
        planes = cls(frame, color_spec)
        for plane in (planes.luma, *planes.chroma):
            plane.flags.writeable = False  # the decoder refers to them for later frames
        return planes

    @classmethod
    def from_rgb(cls, picture: np.ndarray, color_spec: ColorSpec = BT709) -> YuvImage:
        """Convert RGB uint8 (H, W, 3) with even sides. FFmpeg's conversion takes several times as long."""
        planes = cls._allocate(picture.shape[0], picture.shape[1], color_spec)
        planes.write_rgb(picture, Area(0, 0, picture.shape[1], picture.shape[0]))
        return planes

    @classmethod
    def _allocate(cls, height: int, width: int, color_spec: ColorSpec) -> YuvImage:
        import av

        frame = av.VideoFrame(width, height, "yuv420p")
        frame.colorspace, frame.color_primaries = color_spec.matrix, color_spec.primaries
        frame.color_trc = color_spec.transfer
        frame.color_range = _VIDEO_RANGE
        return cls(frame, color_spec)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (H, W, 3) of the frame in RGB."""
        return (*self.luma.shape, 3)

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return self.luma.nbytes * 3 // 2

    def copy(self) -> YuvImage:
        """Return a copy with buffers of its own, which may be written to."""
        height, width = self.luma.shape
        twin = self._allocate(height, width, self.color_spec)
        for mine, theirs in zip((self.luma, *self.chroma), (twin.luma, *twin.chroma), strict=True):
            theirs[:] = mine
        return twin

    def to_small_rgb(self, min_side_px: int) -> np.ndarray:
        """Convert to RGB uint8 (h, w, 3), halved while the longest side stays at least ``min_side_px``.

        Shrinking the result of ``to_rgb`` takes several times as long.
        """
        luma: np.ndarray = self.luma
        chroma: list[np.ndarray] = list(self.chroma)
        while max(luma.shape) >= 2 * min_side_px:
            luma = _halve(luma)
            size_wh = luma.shape[1], luma.shape[0]
            chroma = [cv2.resize(plane, size_wh, interpolation=cv2.INTER_AREA) for plane in chroma]
        if luma is self.luma:
            return self.to_rgb()
        return _yuv_to_rgb(luma, chroma, self.color_spec)

    def to_rgb(self) -> np.ndarray:
        """Convert to RGB uint8 (H, W, 3)."""
        from av.video.reformatter import VideoReformatter

        # A converter of its own, since a frame keeps its converter, which holds megabytes.
        converted = VideoReformatter().reformat(self.frame, format="rgb24", threads=threads_per_stage())
        return np.ascontiguousarray(converted.to_ndarray())

    def area_to_rgb(self, area: Area) -> np.ndarray:
        """Convert an area with even coordinates to RGB uint8 (h, w, 3)."""
        half = area.halve().slices
        size_wh = area.right - area.left, area.bottom - area.top
        chroma = [cv2.resize(plane[half], size_wh, interpolation=cv2.INTER_NEAREST) for plane in self.chroma]
        return _yuv_to_rgb(self.luma[area.slices], chroma, self.color_spec)

    def write_rgb(self, picture: np.ndarray, area: Area) -> None:
        """Write RGB uint8 (h, w, 3) into an area with even coordinates."""
        height, width = picture.shape[:2]
        yuv = cv2.transform(
            picture, _conversion_matrices(self.color_spec.matrix)[0]
        )  # all three channels at once, since OpenCV is slow with fewer
        half = cv2.resize(yuv, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        self.luma[area.slices] = yuv[..., 0]
        for channel, plane in enumerate(self.chroma, 1):
            plane[area.halve().slices] = half[..., channel]

    def crop(self, area: Area, size: int) -> np.ndarray:
        """Crop an area and scale it to RGB uint8 (size, size, 3). Pixels beyond the frame repeat its border.

        With odd coordinates the chroma is shifted by up to one pixel.
        """
        chroma = [crop_area(plane, area.halve(), size) for plane in self.chroma]
        return _yuv_to_rgb(crop_area(self.luma, area, size), chroma, self.color_spec)

    def to_small_gray(self, min_side_px: int) -> np.ndarray:
        """Return luma as uint8 (h, w) in 0..255, halved while the longest side stays at least ``min_side_px``."""
        luma: np.ndarray = self.luma
        while max(luma.shape) >= 2 * min_side_px:
            luma = _halve(luma)
        return _expand_luma(luma)

    def to_gray(self, max_side_px: int) -> np.ndarray:
        """Return luma as uint8 (h, w) in 0..255, halved until no side is longer than ``max_side_px``."""
        return _expand_luma(halve_to_fit(self.luma, max_side_px))


@dataclass(frozen=True)
class FrameFormat:
    """Size (even sides) and color description of an encoded video; the same for all of its parts."""

    width: int
    height: int
    color_spec: ColorSpec

    @classmethod
    def from_image(cls, image: np.ndarray | YuvImage) -> FrameFormat:
        """Return the format for a video with this first frame; RGB is encoded as BT.709."""
        height, width = image.shape[:2]
        return cls(width + width % 2, height + height % 2, image.color_spec if isinstance(image, YuvImage) else BT709)


def crop_area(picture: np.ndarray, area: Area, size: int) -> np.ndarray:
    """Crop an area of uint8 (H, W[, 3]) and scale it to (size, size[, 3]). Pixels beyond the picture repeat its border."""
    height, width = picture.shape[:2]
    left, top, right, bottom = area
    inside = picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    over = max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0)
    if any(over):
        inside = cv2.copyMakeBorder(inside, *over, borderType=cv2.BORDER_REPLICATE)
    shrinks = min(inside.shape[:2]) >= size
    return cv2.resize(inside, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def halve_to_fit(picture: np.ndarray, max_side_px: int) -> np.ndarray:
    """Halve a picture until no side is longer than ``max_side_px``. Halving is much faster than other scales."""
    while max(picture.shape[:2]) > max_side_px:
        picture = _halve(picture)
    return picture


def _expand_luma(luma: np.ndarray) -> np.ndarray:
    """Map luma in 16..235 to 0..255, uint8."""
    return cv2.convertScaleAbs(cv2.subtract(luma, cast(Any, 16)), alpha=255 / 219)


def _halve(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return cv2.resize(picture, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)


def image_to_rgb(picture: np.ndarray | YuvImage) -> np.ndarray:
    """Return a frame, RGB or YUV, as RGB uint8 (H, W, 3)."""
    return picture.to_rgb() if isinstance(picture, YuvImage) else picture


def _yuv_to_rgb(luma: np.ndarray, chroma: list[np.ndarray], color_spec: ColorSpec) -> np.ndarray:
    return cv2.transform(cv2.merge([luma, *chroma]), _conversion_matrices(color_spec.matrix)[1])


@lru_cache
def _conversion_matrices(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices (RGB to YUV, YUV to RGB), float64 (3, 4), for RGB in 0..255 and luma in 16..235."""
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
