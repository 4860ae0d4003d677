"""Pictures of every kind → upright RGB uint8. The one place that opens picture files and accepts picture arrays."""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from mien.core.errors import MediaError
from mien.core.files import fault_of

#: File endings that folders are searched for.
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

#: Pictures with more pixels are refused unless the limit is raised: 20,000 x 20,000.
MAX_PIXELS = 400_000_000

#: The EXIF entry that says how a picture is turned; 1 is upright.
_ORIENTATION = 0x0112

_PILLOW_SETTINGS = threading.Lock()


def read_picture(
    source: str | Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS, allow_truncated: bool = False
) -> np.ndarray:
    """A picture file, or the bytes of one → RGB uint8 (H, W, 3), upright as its EXIF orientation says.

    Of an animation the first frame is read; transparency is laid over white; 16-bit and float pictures are scaled
    to 8 bits. Raises MediaError, with ``name`` in it, for whatever cannot be read or has more than ``max_pixels``.
    """
    name = name or (str(source) if not isinstance(source, bytes) else "picture")
    with _opened(source, name, max_pixels, allow_truncated) as picture:
        return from_pillow(picture)


def from_pillow(picture: Image.Image) -> np.ndarray:
    """A Pillow image of any mode → RGB uint8 (H, W, 3), upright as its EXIF orientation says."""
    if _is_turned(picture):
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):  # 16- and 32-bit: Pillow would clip them to 255 instead of scaling
        return as_rgb(np.array(picture))
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture.convert("RGBA"))
        picture = white
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _is_turned(picture: Image.Image) -> bool:
    """Whether its EXIF says that it does not stand upright; a damaged EXIF block says nothing."""
    try:
        return picture.getexif().get(_ORIENTATION, 1) != 1
    except (SyntaxError, struct.error, ValueError, TypeError, KeyError):
        return False


def is_picture(path: Path) -> bool:
    """Whether a file begins as a picture does, whatever it is called; a pipe is not asked, since it might never answer."""
    if not path.is_file():
        return False
    try:
        with warnings.catch_warnings(), Image.open(path):
            return True
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return isinstance(error, Image.DecompressionBombError)


def read_grey(source: str | Path | bytes, *, name: str | None = None) -> np.ndarray:
    """As read_picture, but grey uint8 (H, W)."""
    name = name or (str(source) if not isinstance(source, bytes) else "picture")
    with _opened(source, name, MAX_PIXELS, False) as picture:
        plain = picture.mode in ("RGB", "L") and not picture.has_transparency_data
        if plain and not _is_turned(picture):
            return np.array(picture.convert("L"))
        return np.array(Image.fromarray(from_pillow(picture)).convert("L"))


@contextmanager
def _opened(source: str | Path | bytes, name: str, max_pixels: int, allow_truncated: bool) -> Iterator[Image.Image]:
    """The picture, its pixels decoded; every way in which Pillow can fail becomes a MediaError."""
    path = None if isinstance(source, bytes) else _existing(Path(source))
    try:
        with (
            # Opened here: a file that Pillow opens by its name it may map into memory, and then scrambles turned TIFFs.
            io.BytesIO(source) if path is None else path.open("rb") as file,
            _pillow_set_to(max_pixels, allow_truncated),
            Image.open(file) as picture,
        ):
            if picture.width * picture.height > max_pixels:
                raise MediaError(
                    name,
                    f"has {picture.width} x {picture.height} pixels, more than the limit of {max_pixels:,}",
                    f"scale it down, or raise the limit with 'mien analyze --max-pixels {picture.width * picture.height}'",
                    code="too_many_pixels",
                    width=picture.width,
                    height=picture.height,
                    limit=max_pixels,
                )
            picture.load()
            yield picture
    except UnidentifiedImageError as error:
        raise MediaError(
            name,
            "is not a picture in a format that is read here",
            "give a JPEG, PNG, WebP, BMP, GIF or TIFF file",
            code="not_a_picture",
        ) from error
    except OSError as error:
        if error.errno is not None and not isinstance(source, bytes):
            raise MediaError(name, f"cannot be read ({error.strerror})", "check its permissions") from error
        raise _broken(name, error) from error
    except (SyntaxError, ValueError, EOFError) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> MediaError:
    """What Pillow says of a damaged file, in our words."""
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        found = "is cut off: the file ends before the picture does"
        cure = "copy it again, or analyse what there is with 'mien analyze --allow-truncated'"
        return MediaError(name, found, cure, code="picture_cut_off")
    return MediaError(name, f"is broken ({error})", "copy or export it again", code="picture_broken")


def _existing(path: Path) -> Path:
    if fault := fault_of(path, "a picture"):
        raise MediaError(path, *fault)
    return path


@contextmanager
def _pillow_set_to(max_pixels: int, allow_truncated: bool) -> Iterator[None]:
    """Pillow keeps its pixel limit and its leniency in module variables: set them, and put them back."""
    with _PILLOW_SETTINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow would warn about is either refused here or harmless
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, allow_truncated
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def as_rgb(array: np.ndarray) -> np.ndarray:
    """A picture array → RGB uint8 (H, W, 3), contiguous.

    Takes grey (H, W) or (H, W, 1), RGB (H, W, 3) and RGBA (H, W, 4), as uint8, uint16 (0..65535), other integers (0..255,
    or 0..65535 where a value above 255 occurs), bool, or float in 0..1 (or 0..255 where a value above 1 occurs). Raises ValueError for any other shape or type, and for NaN.
    """
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ValueError(f"a picture has shape (H, W), (H, W, 3) or (H, W, 4), not {array.shape}")
    array = _to_uint8(array)
    if array.ndim == 2:
        return np.repeat(array[..., None], 3, axis=2)
    if array.shape[2] == 4:  # over white
        alpha = array[..., 3:].astype(np.uint16)
        array = ((array[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(array)


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise ValueError("a picture of floats must not hold NaN or infinity")
        scale = 255 if array.max() <= 1 else 1
        return np.clip(np.round(array * scale), 0, 255).astype(np.uint8)
    if np.issubdtype(array.dtype, np.integer):
        if array.min() < 0 or array.max() > 65535:
            raise ValueError(f"a picture of integers must lie in 0..65535, not {array.min()}..{array.max()}")
        is_16_bit = array.dtype.kind == "u" and array.dtype.itemsize == 2  # in either order of bytes
        if not is_16_bit and array.max() <= 255:  # other integers usually hold 8-bit values
            return array.astype(np.uint8)
        return (np.asarray(array, np.uint32) // 257).astype(np.uint8)
    raise ValueError(f"a picture holds numbers, not {array.dtype}")
