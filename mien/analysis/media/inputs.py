"""List the inputs that arguments name (files, folders, cameras and streams), and choose the names of their outputs."""

from __future__ import annotations

import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from mien.core.errors import MediaError
from mien.core.files import escape_file_name, find_file_problem, walk_files
from mien.core.picture_formats import (
    HEIF_HINT,
    HEIF_SUFFIXES,
    PICTURE_SUFFIXES,
    is_heif_installed,
    is_video_head,
    read_head,
)
from mien.core.pictures import is_animation, is_picture

#: Endings of the stems of pictures, videos and folders that mien writes.
OWN_NAME_ENDINGS = (".annotated", ".timeline", ".moments", ".expressions", ".transitions", ".compared")

#: Suffixes of videos in folders. A file that is named itself is opened with any suffix.
VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".qt", ".avi", ".divx", ".mkv", ".webm", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".mod", ".tod",
    ".ts", ".mts", ".m2t", ".m2ts", ".vob", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".ogm", ".mxf", ".dv",
    ".h264", ".264", ".h265", ".265", ".hevc", ".mjpg", ".mjpeg", ".ivf", ".y4m", ".nut", ".rm", ".rmvb", ".mk3d", ".lrv",
    ".insv", ".swf", ".wtv",
})  # fmt: skip

#: Suffixes of pictures and videos that mien cannot read: raw photographs, projects, and formats without a decoder. Those in
#: folders are counted.
UNREAD_SUFFIXES = frozenset({
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".raf", ".pef", ".srw", ".raw",
    ".psd", ".psb", ".xcf", ".jxl", ".jxr", ".heics", ".svg", ".eps", ".tga", ".pcx", ".ico", ".exr", ".fits", ".dcm", ".qoi",
    ".jps", ".insp", ".braw", ".r3d", ".ari", ".dav", ".360",
})  # fmt: skip

#: Suffixes of Motion JPEG streams, whose first bytes are those of a JPEG picture.
_JPEG_STREAMS = frozenset({".mjpg", ".mjpeg"})


#: Maximum bytes of a stem. File systems allow 255 bytes, including endings such as ``-2.records.parquet``.
MAX_STEM_BYTES = 225

#: Addresses of streams and cameras (``camera:0``).
_STREAM_ADDRESS = re.compile(r"(https?|rtsps?|rtmps?|rtp|udp|tcp|srt)://.+|camera:\d+", re.IGNORECASE)


def is_stream_address(argument: str | Path) -> bool:
    """Whether an argument is the address of a camera or a stream rather than a path."""
    return isinstance(argument, str) and _STREAM_ADDRESS.fullmatch(argument) is not None


@dataclass(frozen=True)
class Input:
    """One file, camera or stream to analyze.

    path   path of a file; address of a stream or camera (``camera:0``) as str
    stem   path of the outputs, relative to the output folder and without a suffix
    """

    path: Path | str
    stem: Path

    @property
    def file(self) -> Path | None:
        """The path of a file; None for a camera or a stream."""
        return self.path if isinstance(self.path, Path) else None

    @property
    def is_stream(self) -> bool:
        """Whether the input is a camera or a stream, which cannot be read twice."""
        return self.file is None

    @cached_property
    def is_video(self) -> bool:
        """Whether the input is a video, judged by its content, else by its suffix. Animated pictures are videos."""
        if self.file is None or is_video_head(read_head(self.file)):
            return True
        suffix = self.file.suffix.lower()
        if is_picture(self.file) and suffix not in _JPEG_STREAMS:
            return is_animation(self.file)
        return suffix not in PICTURE_SUFFIXES

    def file_status(self) -> os.stat_result | None:
        """Return the current status of the file; None for a stream and for a missing file."""
        try:
            return None if self.file is None else self.file.stat()
        except OSError:
            return None

    def fingerprint(self) -> list[int]:
        """Return [size in bytes, modification time in ns]; [] for a stream and for a missing file."""
        status = self.file_status()
        return [] if status is None else [status.st_size, status.st_mtime_ns]

    def check_unchanged(self, before: os.stat_result | None) -> str:
        """Return a warning if the file has grown since the status ``before``, else "".

        A missing file gives no warning. Raises MediaError if the file was replaced or changed.
        """
        now = self.file_status()
        if before is None or now is None or ((now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)):
            return ""
        if now.st_ino == before.st_ino and now.st_size > before.st_size:
            return f"grew by {now.st_size - before.st_size:,} bytes while it was read; analyze it again when it is complete"
        raise MediaError(self.name, "was replaced or changed while it was read", "analyze it again when it is complete")

    def output_name(self, output: Path) -> str:
        """Return the name under which a user receives the file ``output``."""
        return output.name

    @property
    def name(self) -> str:
        """The path or address as printable text: bytes that are not UTF-8 are escaped, user names and passwords removed."""
        if isinstance(self.path, str):
            return strip_credentials(self.path)
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")

    @property
    def absolute_name(self) -> str:
        """The absolute path of a file as printable text, with links kept; the name of a stream."""
        return self.name if self.file is None else escape_file_name(os.path.abspath(self.file))  # noqa: PTH100


def strip_credentials(address: str) -> str:
    """Remove user name, password and query: ``rtsp://me:secret@host/door?a=1`` → ``rtsp://host/door``."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _stream_input(address: str) -> Input | MediaError:
    """Return the input of an address, with a stem such as ``camera-0`` or ``host-554-door``; an error for a malformed address."""
    address = address if "://" in address else address.lower()
    try:
        bare = strip_credentials(address).partition("://")[2] or address
    except ValueError as error:
        shown = address.rpartition("@")[2]  # the text before it may contain a password
        return MediaError(f"'{shown}'", f"is not an address ({error})", "check it")
    return Input(address, Path(re.sub(r"[^A-Za-z0-9_.]+", "-", bare).strip("-.")[:100] or "stream"))


def list_inputs(
    arguments: Sequence[str | Path], out: Path | None = None, skipped: Counter[str] | None = None
) -> list[Input | MediaError]:
    """Return the inputs that the arguments name, in a stable order; an argument without inputs gives an error instead.

    arguments   files, folders and addresses. Folders are searched recursively for pictures and videos; hidden files and
                annotated media of earlier runs are left out
    out         the output folder, which is not searched
    skipped     counts the suffixes of pictures and videos in folders that mien cannot read

    A file comes once, even if several arguments name it. If two inputs have the same stem, their stems get the suffix.
    """
    skipped = Counter() if skipped is None else skipped
    inputs: list[Input | MediaError] = []
    for name in arguments:
        if is_stream_address(name):
            inputs.append(_stream_input(str(name)))
            continue
        if not str(name):
            inputs.append(MediaError("''", "is an empty name", "name a file or folder; '.' is the current folder"))
            continue
        argument = Path(name)
        if os.path.isdir(argument):  # noqa: PTH112 - unlike pathlib's, it returns False for a name that is too long
            faults: list[MediaError] = []
            unread: Counter[str] = Counter()
            files = list(_list_media(argument, out, faults, unread))
            skipped.update(unread)
            inputs += [Input(file, file.relative_to(argument).with_suffix("")) for file in files]
            inputs += faults
            if not files and not faults:
                inputs.append(_empty_folder_error(argument, unread))
        elif os.path.exists(argument):  # noqa: PTH110 - as above
            inputs.append(Input(argument, Path(argument.stem)))
        else:
            inputs.append(
                MediaError(argument, *(find_file_problem(argument, "an input") or ("does not exist", "check the path")))
            )
    return assign_stems(_remove_duplicates(inputs))


def _remove_duplicates(inputs: list[Input | MediaError]) -> list[Input | MediaError]:
    """Keep the first occurrence of each file; prefer its own name to that of a link."""
    once: dict[object, tuple[Input | MediaError, bool]] = {}  # with True for a link
    for item in inputs:
        path = item.file if isinstance(item, Input) else None
        key, is_link = (id(item), False) if path is None else (os.path.realpath(path), path.is_symlink())
        if key not in once or (once[key][1] and not is_link):
            once[key] = item, is_link
    return [item for item, _ in once.values()]


def _empty_folder_error(folder: Path, left_out: Counter[str]) -> MediaError:
    problem = "is a folder without pictures or videos"
    if not left_out:
        return MediaError(folder, problem, "name another one")
    return MediaError(folder, f"{problem} that are read here", describe_skipped(left_out))


def describe_skipped(left_out: Counter[str]) -> str:
    """``3 files left out: 2 .heic (pip install 'mien[heic]'), 1 .dng``."""
    total = left_out.total()
    kinds = (
        f"{count:,} {suffix}" + (f" ({HEIF_HINT})" if suffix in HEIF_SUFFIXES else "")
        for suffix, count in left_out.most_common()
    )
    return f"{total:,} file{'' if total == 1 else 's'} left out: {', '.join(kinds)}"


def _list_media(folder: Path, out: Path | None, faults: list[MediaError], left_out: Counter[str]) -> Iterator[Path]:
    """Yield the pictures and videos below a folder, sorted.

    faults     gets an error for each folder that cannot be read
    left_out   counts the suffixes of media that mien cannot read
    """

    def record_error(error: OSError) -> None:
        faults.append(MediaError(error.filename, f"cannot be read ({error.strerror})", "check its permissions"))

    inside = folder.resolve() in out.resolve().parents if out is not None else False
    unread = UNREAD_SUFFIXES if is_heif_installed() else UNREAD_SUFFIXES | HEIF_SUFFIXES
    for path in sorted(walk_files(folder, record_error)):
        suffix = path.suffix.lower()
        if suffix in unread:
            left_out[suffix] += 1
            continue
        if suffix not in PICTURE_SUFFIXES | VIDEO_SUFFIXES:
            continue
        parts = path.relative_to(folder).parts
        ours = path.stem.endswith(OWN_NAME_ENDINGS) or any(part.endswith(OWN_NAME_ENDINGS) for part in parts[:-1])
        written = out is not None and inside and path.resolve().is_relative_to(out.resolve())
        if not ours and not written and path.is_file():
            yield path


def assign_stems(
    inputs: Sequence[Input | MediaError],
    known_stems: Mapping[str, str] = {},
    is_free: Callable[[Path, Input], bool] = lambda stem, item: True,
) -> list[Input | MediaError]:
    """Give each input a distinct stem: photo.jpg and photo.png → photo and photo.png; x.jpg thrice → x, x.jpg and x.jpg-2.

    Stems are compared without case, as file systems of Windows and macOS do, and are shortened to MAX_STEM_BYTES.

    known_stems   name of an input → the stem that it has already
    is_free       whether an input may use a stem, given other files in the folder
    """
    taken = {"all"} if len(inputs) > 1 else set()  # reserved for the table of all inputs
    taken |= {stem.lower() for stem in known_stems.values()}
    left = dict(known_stems)
    distinct: list[Input | MediaError] = []
    for item in inputs:
        if isinstance(item, Input) and item.name in left:
            item = replace(item, stem=Path(left.pop(item.name)))
        elif isinstance(item, Input):
            stems = (stem for stem in _candidate_stems(item) if str(stem).lower() not in taken and is_free(stem, item))
            item = replace(item, stem=next(stems))
            taken.add(str(item.stem).lower())
        distinct.append(item)
    return distinct


def _candidate_stems(item: Input) -> Iterator[Path]:
    """Yield possible stems of an input without end, the preferred one first."""
    yield item.stem.with_name(shorten_name(item.stem.name))
    own = item.stem.name if item.file is None else item.file.name
    yield item.stem.with_name(shorten_name(own))
    for number in count(2):
        yield item.stem.with_name(f"{shorten_name(own)}-{number}")


def shorten_name(name: str) -> str:
    """Shorten a file name to MAX_STEM_BYTES; a shortened name ends in a checksum of the full name."""
    raw = os.fsencode(name)
    if len(raw) <= MAX_STEM_BYTES:
        return name
    check = f"~{zlib.crc32(raw):08x}"
    return raw[: MAX_STEM_BYTES - len(check)].decode("utf-8", "ignore") + check
