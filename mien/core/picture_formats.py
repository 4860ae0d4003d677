"""What picture files are: the formats that are opened, their endings, and what the first bytes of a file say of it."""

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

#: The formats that are opened, by the program, the readers of data sets and the service alike. Pillow knows many more: some
#: are old and little tested, some have no signature, and EPS starts another program (Ghostscript).
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

#: What phones write; opened by pillow-heif, the extra ``heic``.
HEIF_FORMAT = "HEIF"
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
HEIF_HINT = "pip install 'mien[heic]'"

#: Formats whose frames are an animation. A TIFF's are pages, and those of MPO and HEIF other views or sizes of one picture.
ANIMATED_FORMATS = frozenset({"GIF", "PNG", "WEBP", "AVIF"})

#: File endings that folders are searched for.
PICTURE_SUFFIXES = HEIF_SUFFIXES | {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".avif",
    ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm",
}  # fmt: skip

#: Major brands of ISO base media files (ISO/IEC 23008-12, AVIF 1.1) that hold pictures.
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2", b"miaf"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})

#: First bytes of videos, and where they stand. An ISO base media file and a RIFF file say in their first lines which kind they are.
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

#: Of transport streams: where the first packet's sync byte stands, and the length of a packet; cameras put a time before it.
_TRANSPORT_STREAMS = ((0, 188), (4, 192))

#: Bytes that are asked for; the brands of an ISO base media file lie within them.
HEAD_BYTES = 512


def list_openable_formats(head: bytes) -> list[str]:
    """For ``Image.open``: the formats that a file which begins like this may be opened as.

    Raises ImportError where it is a HEIF file and pillow-heif is not installed.
    """
    if not is_heif(head):
        return list(PICTURE_FORMATS)
    _register_heif()
    return [HEIF_FORMAT]


def is_heif(head: bytes) -> bool:
    """Whether a file that begins like this is HEIC or HEIF."""
    brands = _read_brands(head)
    return bool(brands) and brands[0] in _HEIF_BRANDS and not _AVIF_BRANDS.intersection(brands)


def is_video_head(head: bytes) -> bool:
    """Whether a file that begins like this is a video, by its signature."""
    if brands := _read_brands(head):
        return brands[0] not in _HEIF_BRANDS | _AVIF_BRANDS and brands[0] not in (b"jp2 ", b"jpx ")
    if head[:4] == b"RIFF":
        return head[8:12] in (b"AVI ", b"AVIX")
    if any(head[first::length][:3] == b"\x47\x47\x47" for first, length in _TRANSPORT_STREAMS):
        return True
    return any(head[place : place + len(signature)] == signature for place, signature in _VIDEO_SIGNATURES)


def is_heif_installed() -> bool:
    """Whether pillow-heif is there; it is not imported."""
    return find_spec("pillow_heif") is not None


def _read_brands(head: bytes) -> list[bytes]:
    """The major brand of an ISO base media file and those that it is compatible with; [] for any other file."""
    if head[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return [head[8:12], *(head[at : at + 4] for at in range(16, end, 4))]


@cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


def read_head(path: Path) -> bytes:
    """The first bytes of a file; b"" of what is no file, such as a pipe, which might never answer, or cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return b""
