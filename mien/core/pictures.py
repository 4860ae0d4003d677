"""Picture files and arrays of all kinds → upright RGB uint8. Only this module opens picture files."""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from mien.core.errors import MediaError
from mien.core.files import find_file_problem
from mien.core.picture_formats import (
    ANIMATED_FORMATS,
    HEAD_BYTES,
    HEIF_HINT,
    is_heif,
    is_video_head,
    list_openable_formats,
    read_head,
)

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import TiffImageFile

#: Pictures with more pixels are refused by default: 20,000 x 20,000.
MAX_PIXELS = 400_000_000

#: Pictures are converted in strips of about this many pixels, so that memory holds a large one only twice.
STRIP_PIXELS = 4_000_000

#: The EXIF entry of the orientation, and views that turn an upright array into the stored orientation. 1 is upright.
_ORIENTATION = 0x0112
_STORED_VIEWS = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}

#: TIFF's tag of the kind of a page. Its first bit marks a smaller copy of another page.
_PAGE_KIND = 254

#: Errors of Pillow and its plugins for damaged files, besides OSError. The last one: a later frame claims a huge size.
DECODING_ERRORS = (
    SyntaxError, ValueError, EOFError, RuntimeError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
    ZeroDivisionError, struct.error, Image.DecompressionBombError,
)  # fmt: skip

_PILLOW_LOCK = threading.Lock()


def read_picture(
    source: str | Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS, allow_truncated: bool = False
) -> np.ndarray:
    """Read a picture file, or its bytes, as RGB uint8 (H, W, 3) in sRGB, upright by its EXIF orientation.

    Of an animation or a file of several pages, the first picture is read. Transparent pixels are blended with white.
    16-bit and float pictures are scaled to 8 bits. Reading needs about 7 bytes a pixel.

    Raises MediaError about ``name`` if the picture cannot be read or has more than ``max_pixels`` pixels.
    """
    name = name or (str(source) if not isinstance(source, bytes) else "picture")
    with open_picture(source, name, max_pixels, allow_truncated) as picture:
        return convert_pillow(picture)


def convert_pillow(picture: Image.Image) -> np.ndarray:
    """Convert a Pillow image of any mode to RGB uint8 (H, W, 3) in sRGB, upright by its EXIF orientation.

    Raises ValueError if the values of a float or integer image have an unknown range.
    """
    width, height, turned = *picture.size, _read_orientation(picture)
    upright = np.empty((width, height, 3) if turned >= 5 else (height, width, 3), np.uint8)
    stored = _STORED_VIEWS.get(turned, lambda upright: upright)(upright)
    if picture.mode.startswith(("I", "F")):  # 16- and 32-bit: Pillow would clip them to 255 instead of scaling
        stored[:] = convert_to_rgb(np.asarray(picture))
        return upright
    to_srgb = _find_srgb_transform(picture)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        strip = picture if rows >= height else picture.crop((0, top, width, bottom))
        stored[top:bottom] = np.asarray(_convert_to_srgb(strip, to_srgb))
    return upright


def _convert_to_srgb(picture: Image.Image, to_srgb: Any) -> Image.Image:
    """Blend transparent pixels with white and convert the colors to sRGB."""
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture.convert("RGBA"))
        picture = white
    if to_srgb is None:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    from PIL import ImageCms

    picture = picture if picture.mode == to_srgb.input_mode else picture.convert(to_srgb.input_mode)
    return cast(Image.Image, ImageCms.applyTransform(picture, to_srgb))


def _find_srgb_transform(picture: Image.Image) -> Any:
    """Return the transform from a picture's ICC profile to sRGB; None without a profile, for sRGB, and for a damaged one."""
    data = picture.info.get("icc_profile")
    if not data:
        return None
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(profile.profile.xcolor_space.strip())
        if mode is None or (mode == "CMYK") != (picture.mode == "CMYK"):
            return None
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return None
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, ImportError, OSError, *DECODING_ERRORS):
        return None


def _read_orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if the EXIF block is absent or damaged."""
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except (OSError, *DECODING_ERRORS):
        return 1
    return value if value in _STORED_VIEWS else 1


def is_picture(path: Path) -> bool:
    """Return whether a file is a picture by its first bytes, not by its name. A pipe is not read; it might never answer."""
    return bool(_detect_format(path)[0])


def is_animation(path: Path) -> bool:
    """Return whether a picture file is an animation of several frames."""
    return _detect_format(path)[1]


def _detect_format(path: Path) -> tuple[str, bool]:
    """Return (format, whether it is animated); the format is "" if the file is no picture."""
    head = read_head(path)
    if not head or is_video_head(head):
        return "", False
    if is_heif(head):
        return "HEIF", False
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            path.open("rb") as file,
            Image.open(file, formats=list_openable_formats(head)) as picture,
        ):
            return picture.format or "", picture.format in ANIMATED_FORMATS and _is_animated(picture)
    except Image.DecompressionBombError:
        return "large", False
    except (OSError, *DECODING_ERRORS):
        return "", False


def _is_animated(picture: Image.Image) -> bool:
    try:
        return bool(getattr(picture, "is_animated", False))
    except (OSError, *DECODING_ERRORS):  # the second frame of a GIF is damaged, so there is a second frame
        return True


def count_pages(path: Path) -> int:
    """Count the pages of a TIFF without smaller copies of a page; 1 for every other file."""
    if read_head(path)[:2] not in (b"II", b"MM"):
        return 1
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            path.open("rb") as file,
            Image.open(file, formats=["TIFF"]) as picture,
        ):
            pages, tiff = 0, cast("TiffImageFile", picture)
            for number in range(tiff.n_frames):
                tiff.seek(number)
                pages += not tiff.tag_v2.get(_PAGE_KIND, 0) & 1
            return max(1, pages)
    except (OSError, *DECODING_ERRORS):
        return 1


def read_gray(source: str | Path | bytes, *, name: str | None = None) -> np.ndarray:
    """Read a picture as gray uint8 (H, W), otherwise as `read_picture` does."""
    name = name or (str(source) if not isinstance(source, bytes) else "picture")
    with open_picture(source, name) as picture:
        plain = (
            picture.mode in ("RGB", "L") and not picture.has_transparency_data and not picture.info.get("icc_profile")
        )
        if plain and _read_orientation(picture) == 1:
            return np.array(picture.convert("L"))
        return np.array(Image.fromarray(convert_pillow(picture)).convert("L"))


@contextmanager
def open_picture(
    source: str | Path | bytes, name: str, max_pixels: int = MAX_PIXELS, allow_truncated: bool = False
) -> Iterator[Image.Image]:
    """Open and decode a picture with Pillow. Every failure raises MediaError about ``name``."""
    path = None if isinstance(source, bytes) else _check_file(Path(source))
    head = b""
    try:
        with (
            # Opened here: Pillow may map a file that it opens by name into memory, and then scrambles rotated TIFFs.
            io.BytesIO(cast(bytes, source)) if path is None else path.open("rb") as file,
            _pillow_settings(max_pixels, allow_truncated),
        ):
            head = file.read(HEAD_BYTES)
            with Image.open(file, formats=list_openable_formats(head)) as picture:
                _check_size(picture, name, max_pixels)
                picture.load()
                yield picture
    except ImportError as error:
        problem = "is a HEIC picture, and what reads those is not installed"
        raise MediaError(name, problem, HEIF_HINT, code="missing_extra", package="pillow-heif", extra="heic") from error
    except UnidentifiedImageError as error:
        if is_video_head(head):
            hint = "'mien analyze' reads videos"
            raise MediaError(name, "is a video, not a picture", hint, code="video_not_picture") from error
        problem = "is not a picture in a format that is read here"
        raise MediaError(
            name, problem, "give a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC file", code="not_a_picture"
        ) from error
    except OSError as error:
        if error.errno is not None and not isinstance(source, bytes):
            raise MediaError(name, f"cannot be read ({error.strerror})", "check its permissions") from error
        raise _decoding_error(name, error) from error
    except DECODING_ERRORS as error:
        raise _decoding_error(name, error) from error


def _check_size(picture: Image.Image, name: str, max_pixels: int) -> None:
    pixels = picture.width * picture.height
    if pixels > max_pixels:
        problem = f"has {picture.width} x {picture.height} pixels, more than the limit of {max_pixels:,}"
        hint = f"scale it down, or raise the limit with `max_pixels={pixels}`"
        size = {"width": picture.width, "height": picture.height, "limit": max_pixels}
        raise MediaError(name, problem, hint, code="too_many_pixels", **size)
    if not pixels:
        raise MediaError(
            name, f"has {picture.width} x {picture.height} pixels", "copy or export it again", code="picture_broken"
        )


def _decoding_error(name: str, error: Exception) -> MediaError:
    """Return the MediaError for an error of Pillow about a damaged file."""
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        problem = "is cut off: the file ends before the picture does"
        hint = "copy it again, or analyze what there is with `allow_truncated=True`"
        return MediaError(name, problem, hint, code="picture_cut_off")
    return MediaError(name, f"is broken ({error})", "copy or export it again", code="picture_broken")


def _check_file(path: Path) -> Path:
    if fault := find_file_problem(path, "a picture"):
        raise MediaError(path, *fault)
    return path


@contextmanager
def _pillow_settings(max_pixels: int, allow_truncated: bool) -> Iterator[None]:
    """Set the pixel limit and the leniency of Pillow, which are module variables, during the block."""
    with _PILLOW_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow warns about is refused here or harmless
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, allow_truncated
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def convert_to_rgb(array: np.ndarray) -> np.ndarray:
    """Convert a picture array to contiguous RGB uint8 (H, W, 3).

    Accepts gray (H, W) or (H, W, 1), RGB (H, W, 3) and RGBA (H, W, 4). Values by type:

    uint8           as they are
    uint16          0..65535
    other integers  0..255, or 0..65535 if a value is above 255
    floats          0..1; 0..255 if a value is above 1; 0..65535 if a value is above 255. Values may overshoot by 5 %,
                    as after interpolation
    bool            black and white

    Raises ValueError for other shapes, types and ranges, and for NaN. Normalized pictures (mean 0 and deviation 1, or
    -1..1) are refused, since they cannot be recognized as such. A maximum between 1 and 4 is refused for the same reason.
    """
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        problem = f"a picture has shape (H, W), (H, W, 3) or (H, W, 4), not {array.shape}"
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            problem += ": put its channels last"
        raise ValueError(problem + (": give several pictures as a list" if array.ndim == 4 else ""))
    array = _convert_to_uint8(array)
    if array.ndim == 2:
        return np.repeat(array[..., None], 3, axis=2)
    if array.shape[2] == 4:  # over white
        alpha = array[..., 3:].astype(np.uint16)
        array = ((array[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(array)


def _convert_to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if np.issubdtype(array.dtype, np.floating):
        return _convert_in_strips(array, _float_converter(_find_white_level(array)))
    if np.issubdtype(array.dtype, np.integer):
        if array.min() < 0 or array.max() > 65535:
            raise ValueError(f"a picture of integers must lie in 0..65535, not {array.min()}..{array.max()}")
        is_16_bit = array.dtype.kind == "u" and array.dtype.itemsize == 2  # in either byte order
        if not is_16_bit and array.max() <= 255:  # other integers usually hold 8-bit values
            return array.astype(np.uint8)
        return _convert_in_strips(array, lambda strip: np.asarray(strip, np.uint32) // 257)
    raise ValueError(f"a picture holds numbers, not {array.dtype}")


#: Floats may exceed white and black by this share of white, as after cubic interpolation at edges.
OVERSHOOT = 0.05

#: A maximum above 1 and below this means a normalized picture: with common means and deviations, white becomes 2.2 to 3.
MIN_WHITE = 4.0


def _find_white_level(array: np.ndarray) -> float:
    """Return the value of white in a picture of floats: 1, 255 or 65535. Raise ValueError if it is unclear."""
    low, high = float(array.min()), float(array.max())
    if not np.isfinite((low, high)).all():
        raise ValueError("a picture of floats must not hold NaN or infinity")
    white = next((white for white in (1.0, 255.0, 65535.0) if high <= white * (1 + OVERSHOOT)), None)
    if white is None or low < -OVERSHOOT * min(white, max(high, 1.0)) or (white > 1 and high < MIN_WHITE):
        raise ValueError(
            f"a picture of floats must lie in 0..1, 0..255 or 0..65535, not {low:.4g}..{high:.4g}: "
            "undo what normalized it, or give uint8"
        )
    return white


def _float_converter(white: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda strip: np.clip(np.round(strip * (255 / white)), 0, 255)


def _convert_in_strips(array: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply ``convert`` to strips of rows and return uint8. On the whole array it would need several times its memory."""
    out = np.empty(array.shape, np.uint8)
    rows = max(1, STRIP_PIXELS // max(1, array[0].size))
    for top in range(0, len(array), rows):
        out[top : top + rows] = convert(array[top : top + rows])
    return out
