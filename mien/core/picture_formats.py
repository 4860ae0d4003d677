"""Picture formats: which are opened, their file endings, and how the first bytes of a file identify its format."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

#: The formats that are opened everywhere in mien. Pillow knows more, but some are old and little tested, some have no
#: signature, and EPS starts another program (Ghostscript).
PICTURE_FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,  # opens MPO as well
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        TiffImagePlugin.TiffImageFile,
        AvifImagePlugin.AvifImageFile,
        Jpeg2KImagePlugin.Jpeg2KImageFile,
        PpmImagePlugin.PpmImageFile,
    )
)

#: The format of many phones. pillow-heif opens it, the extra ``heic``.
HEIF_FORMAT = "HEIF"
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
HEIF_HINT = "pip install 'mien[heic]'"

#: Formats whose frames are an animation. The frames of TIFF are pages; those of MPO and HEIF are views or sizes of one picture.
ANIMATED_FORMATS = frozenset({"GIF", "PNG", "WEBP", "AVIF"})

#: File endings of the pictures that are found in folders.
PICTURE_SUFFIXES = HEIF_SUFFIXES | {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".avif",
    ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm",
}  # fmt: skip

#: Major brands of ISO base media files (ISO/IEC 23008-12, AVIF 1.1) that hold pictures.
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2", b"miaf"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})

#: (offset, first bytes) of video formats. ISO base media files and RIFF files are checked separately.
_VIDEO_SIGNATURES = (
    (0, b"\x1aE\xdf\xa3"),  # Matroska, WebM
    (0, b"OggS"),
    (0, b"FLV\x01"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # ASF, WMV
    (0, b"\x00\x00\x01\xba"),  # MPEG program stream
    (0, b"\x00\x00\x01\xb3"),  # MPEG-1 and MPEG-2 video
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01"),  # MXF
    (0, b".RMF"),
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
)

#: (offset of the first sync byte, packet length) of transport streams. Cameras write a timestamp before each packet.
_TRANSPORT_STREAMS = ((0, 188), (4, 192))

#: Number of first bytes that are read. They contain the brands of an ISO base media file.
HEAD_BYTES = 512


def list_openable_formats(head: bytes) -> list[str]:
    """Return the formats for ``Image.open`` of a file with these first bytes.

    Raises ImportError if it is a HEIF file and pillow-heif is not installed.
    """
    if not is_heif(head):
        return list(PICTURE_FORMATS)
    _register_heif()
    return [HEIF_FORMAT]


def is_heif(head: bytes) -> bool:
    """Return whether a file with these first bytes is HEIC or HEIF."""
    brands = _read_brands(head)
    return bool(brands) and brands[0] in _HEIF_BRANDS and not _AVIF_BRANDS.intersection(brands)


def is_video_head(head: bytes) -> bool:
    """Return whether a file with these first bytes is a video."""
    if brands := _read_brands(head):
        return brands[0] not in _HEIF_BRANDS | _AVIF_BRANDS and brands[0] not in (b"jp2 ", b"jpx ")
    if head[:4] == b"RIFF":
        return head[8:12] in (b"AVI ", b"AVIX")
    if any(head[first::length][:3] == b"\x47\x47\x47" for first, length in _TRANSPORT_STREAMS):
        return True
    return any(head[place : place + len(signature)] == signature for place, signature in _VIDEO_SIGNATURES)


def is_heif_installed() -> bool:
    """Return whether pillow-heif is installed, without importing it."""
    return find_spec("pillow_heif") is not None


def _read_brands(head: bytes) -> list[bytes]:
    """Return the major brand of an ISO base media file and its compatible brands; [] for other files."""
    if head[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return [head[8:12], *(head[at : at + 4] for at in range(16, end, 4))]


@cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file; b"" if it cannot be read or is no regular file. A pipe might never answer."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return b""
