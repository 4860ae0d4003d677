"""Inputs: files, folders, cameras and streams → what is to be analyzed, and where its outputs go."""

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
from mien.core.files import find_file_problem, walk_files
from mien.core.picture_formats import (
    HEIF_HINT,
    HEIF_SUFFIXES,
    PICTURE_SUFFIXES,
    is_heif_installed,
    is_video_head,
    read_head,
)
from mien.core.pictures import is_animation, is_picture

#: How the names of pictures, videos and folders end that mien makes of its inputs.
OWN_NAME_ENDINGS = (".annotated", ".timeline", ".moments", ".expressions", ".transitions", ".compared")

#: File endings that folders are searched for; a file named outright is tried whatever it is called.
VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".qt", ".avi", ".divx", ".mkv", ".webm", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".mod", ".tod",
    ".ts", ".mts", ".m2t", ".m2ts", ".vob", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".ogm", ".mxf", ".dv",
    ".h264", ".264", ".h265", ".265", ".hevc", ".mjpg", ".mjpeg", ".ivf", ".y4m", ".nut", ".rm", ".rmvb", ".mk3d", ".lrv",
    ".insv", ".swf", ".wtv",
})  # fmt: skip

#: Endings of pictures and videos that are not read: raw photographs, projects, and formats without a decoder here. In a
#: folder they are counted.
UNREAD_SUFFIXES = frozenset({
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".raf", ".pef", ".srw", ".raw",
    ".psd", ".psb", ".xcf", ".jxl", ".jxr", ".heics", ".svg", ".eps", ".tga", ".pcx", ".ico", ".exr", ".fits", ".dcm", ".qoi",
    ".jps", ".insp", ".braw", ".r3d", ".ari", ".dav", ".360",
})  # fmt: skip

#: Videos that are one JPEG after the other: they begin as a picture does.
_JPEG_STREAMS = frozenset({".mjpg", ".mjpeg"})


#: Bytes of an output's name without what is added to it (``.annotated.mp4``, ``-2.records.parquet``): file systems take 255.
MAX_STEM_BYTES = 225

#: Addresses of streams, and ``camera:0``.
_STREAM_ADDRESS = re.compile(r"(https?|rtsps?|rtmps?|rtp|udp|tcp|srt)://.+|camera:\d+", re.IGNORECASE)


def is_stream_address(argument: str | Path) -> bool:
    """Whether an argument names a camera or a stream rather than a file."""
    return isinstance(argument, str) and _STREAM_ADDRESS.fullmatch(argument) is not None


@dataclass(frozen=True)
class Input:
    """One thing to analyze: a file, or as text a camera (``camera:0``) or a stream's address.

    ``stem`` is where its outputs go, relative to the output folder and without an ending.
    """

    path: Path | str
    stem: Path

    @cached_property
    def is_video(self) -> bool:
        """By its content, or, where that says nothing, by its ending. A picture that moves is a video."""
        if isinstance(self.path, str) or is_video_head(read_head(self.path)):
            return True
        suffix = self.path.suffix.lower()
        if is_picture(self.path) and suffix not in _JPEG_STREAMS:
            return is_animation(self.path)
        return suffix not in PICTURE_SUFFIXES

    def status(self) -> os.stat_result | None:
        """What the system says of the file now; None of a stream, or of a file that is not there."""
        if isinstance(self.path, str):
            return None
        try:
            return self.path.stat()
        except OSError:
            return None

    def fingerprint(self) -> list[int]:
        """Size in bytes and time of change in ns; of a stream, or of a file that is not there, nothing."""
        status = self.status()
        return [] if status is None else [status.st_size, status.st_mtime_ns]

    def check_unchanged(self, before: os.stat_result | None) -> str:
        """A warning where the file has grown since, as a recording does; MediaError where it is another now.

        One that is gone says nothing: what was read of it was its own.
        """
        now = self.status()
        if before is None or now is None or ((now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)):
            return ""
        if now.st_ino == before.st_ino and now.st_size > before.st_size:
            return f"grew by {now.st_size - before.st_size:,} bytes while it was read; begin again when it is whole"
        raise MediaError(self.name, "was replaced or changed while it was read", "begin again when it is whole")

    def output_name(self, output: Path) -> str:
        """By which name those who get an output of it know that."""
        return output.name

    @property
    def name(self) -> str:
        """Its path as text that can be printed and written, whatever bytes the file system holds.

        Of an address, without the name and password that it may carry.
        """
        if isinstance(self.path, str):
            return strip_credentials(self.path)
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")


def strip_credentials(address: str) -> str:
    """``rtsp://me:secret@host/door`` → ``rtsp://host/door``; what stands behind a question mark goes too."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _stream_input(address: str) -> Input | MediaError:
    """Its outputs are named by the address: ``camera:0`` → ``camera-0``; ``rtsp://host:554/door`` → ``host-554-door``."""
    address = address if "://" in address else address.lower()
    try:
        bare = strip_credentials(address).partition("://")[2] or address
    except ValueError as error:
        shown = address.rpartition("@")[2]  # what stands before it may be a password
        return MediaError(f"'{shown}'", f"is not an address ({error})", "check it")
    return Input(address, Path(re.sub(r"[^A-Za-z0-9_.]+", "-", bare).strip("-.")[:100] or "stream"))


def list_inputs(
    arguments: Sequence[str | Path], out: Path | None = None, skipped: Counter[str] | None = None
) -> list[Input | MediaError]:
    """Every file that the arguments mean, in a stable order; an argument that means none gives its error instead.

    Folders are searched recursively for pictures and videos, leaving out hidden files, what lies in ``out`` and
    annotated media of an earlier run. A file that is named twice, itself and by its folder, comes once. Where two inputs
    have the same name, their outputs carry the ending too. ``left_out`` counts, by their endings, the pictures and videos in
    folders that are not read here.
    """
    skipped = Counter() if skipped is None else skipped
    found: list[Input | MediaError] = []
    for given in arguments:
        if is_stream_address(given):
            found.append(_stream_input(str(given)))
            continue
        if not str(given):
            found.append(MediaError("''", "is an empty name", "name a file or folder; '.' is this one"))
            continue
        argument = Path(given)
        if os.path.isdir(argument):  # noqa: PTH112 - unlike pathlib's, it says no to a name that is too long
            faults: list[MediaError] = []
            unread: Counter[str] = Counter()
            files = list(_list_media(argument, out, faults, unread))
            skipped.update(unread)
            found += [Input(file, file.relative_to(argument).with_suffix("")) for file in files]
            found += faults
            if not files and not faults:
                found.append(_empty_folder_error(argument, unread))
        elif os.path.exists(argument):  # noqa: PTH110 - as above
            found.append(Input(argument, Path(argument.stem)))
        else:
            found.append(
                MediaError(argument, *(find_file_problem(argument, "an input") or ("does not exist", "check the path")))
            )
    return assign_stems(_remove_duplicates(found))


def _remove_duplicates(found: list[Input | MediaError]) -> list[Input | MediaError]:
    """Each file once, where it first came, by its own name rather than by that of a link to it."""
    once: dict[object, tuple[Input | MediaError, bool]] = {}  # and whether its name is a link
    for item in found:
        path = item.path if isinstance(item, Input) and isinstance(item.path, Path) else None
        key, is_link = (id(item), False) if path is None else (os.path.realpath(path), path.is_symlink())
        if key not in once or (once[key][1] and not is_link):
            once[key] = item, is_link
    return [item for item, _ in once.values()]


def _empty_folder_error(folder: Path, left_out: Counter[str]) -> MediaError:
    found = "is a folder without pictures or videos"
    if not left_out:
        return MediaError(folder, found, "name another one")
    return MediaError(folder, f"{found} that are read here", describe_skipped(left_out))


def describe_skipped(left_out: Counter[str]) -> str:
    """``3 files left out: 2 .heic (pip install 'mien[heic]'), 1 .dng``."""
    total = left_out.total()
    kinds = (
        f"{count:,} {suffix}" + (f" ({HEIF_HINT})" if suffix in HEIF_SUFFIXES else "")
        for suffix, count in left_out.most_common()
    )
    return f"{total:,} file{'' if total == 1 else 's'} left out: {', '.join(kinds)}"


def _list_media(folder: Path, out: Path | None, faults: list[MediaError], left_out: Counter[str]) -> Iterator[Path]:
    """What is to be analyzed in a folder, in order; folders that cannot be read are added to ``faults``, and the endings of
    media that are not read here to ``left_out``."""

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
    found: Sequence[Input | MediaError],
    known_stems: Mapping[str, str] = {},
    is_free: Callable[[Path, Input], bool] = lambda stem, item: True,
) -> list[Input | MediaError]:
    """photo.jpg and photo.png → photo and photo.png; x.jpg of three folders → x, x.jpg and x.jpg-2.

    Names are compared without case, as the file systems of Windows and macOS do, and shortened where an output's would be
    too long for a file system. ``kept``: stems that inputs of these names have already. ``is_free``: whether an input may
    have a stem, for what else may be in the folder.
    """
    taken = {"all"} if len(found) > 1 else set()  # the name of the table over several inputs
    taken |= {stem.lower() for stem in known_stems.values()}
    left = dict(known_stems)
    distinct: list[Input | MediaError] = []
    for item in found:
        if isinstance(item, Input) and item.name in left:
            item = replace(item, stem=Path(left.pop(item.name)))
        elif isinstance(item, Input):
            stems = (stem for stem in _candidate_stems(item) if str(stem).lower() not in taken and is_free(stem, item))
            item = replace(item, stem=next(stems))
            taken.add(str(item.stem).lower())
        distinct.append(item)
    return distinct


def _candidate_stems(item: Input) -> Iterator[Path]:
    """Where the outputs of an input may go, the best place first, without end."""
    yield item.stem.with_name(shorten_name(item.stem.name))
    own = item.stem.name if isinstance(item.path, str) else item.path.name
    yield item.stem.with_name(shorten_name(own))
    for number in count(2):
        yield item.stem.with_name(f"{shorten_name(own)}-{number}")


def shorten_name(name: str) -> str:
    """A file name of ``LONGEST_STEM`` bytes at most; of a longer one the beginning and a checksum of the whole."""
    raw = os.fsencode(name)
    if len(raw) <= MAX_STEM_BYTES:
        return name
    check = f"~{zlib.crc32(raw):08x}"
    return raw[: MAX_STEM_BYTES - len(check)].decode("utf-8", "ignore") + check
