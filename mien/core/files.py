"""Writing files so that nothing is ever left half written under its final name."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from mien.core.errors import OutputError

#: What an operating system answers when the place, not the program, is at fault.
_WRITE_ERRORS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EISDIR,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
    errno.EFBIG,
)


#: What a shell gives these may be a file, and stays the shell's.
_STREAM_PREFIXES = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")


#: Bytes of a file's name that are no UTF-8, as Python holds them → as a JSON string tells them.
_ESCAPED_BYTES = {0xDC00 + byte: f"\\\\x{byte:02x}" for byte in range(0x80, 0x100)}


def cache_folder() -> Path:
    """Return the folder named by MIEN_CACHE, or the system's cache folder of mien. It may not exist yet."""
    return Path(os.environ.get("MIEN_CACHE") or platformdirs.user_cache_dir("mien", appauthor=False))


def find_file_problem(path: Path, kind: str) -> tuple[str, str] | None:
    """(what is wrong, what to do) with a path that should be a file of some ``kind`` ("a picture"); None where it can be read."""
    try:
        status = path.stat()
    except PermissionError as error:
        return f"cannot be read ({error.strerror})", "check the permissions of its folder"
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return "does not exist", "check the path"
    if stat.S_ISDIR(status.st_mode):
        return f"is a folder, not {kind}", "name a file in it"
    if not stat.S_ISREG(status.st_mode):
        return f"is a pipe or a device, not {kind}", "save what comes from it to a file first"
    if not os.access(path, os.R_OK):
        return "cannot be read (Permission denied)", "check its permissions"
    if status.st_size == 0:
        return "is empty (0 bytes)", "copy or export it again"
    return None


def walk_files(folder: Path, on_error: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Every file in a folder and in those below it, links to folders among them, but for what is hidden.

    A folder that is met again, as where a link leads back up, is not entered a second time; of a folder and a link to it
    beside it, the folder counts. ``locked`` is told of what cannot be read.
    """
    entered: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        shown = (name for name in folders if not name.startswith("."))
        folders[:] = sorted(shown, key=lambda name: (os.path.islink(os.path.join(place, name)), name))  # noqa: PTH114, PTH118
        yield from (Path(place, name) for name in names if not name.startswith("."))


def is_standard_stream(path: str | Path) -> bool:
    """Whether what is written there stands among what the program prints, as with /dev/stdout."""
    return Path(path).as_posix().startswith(_STREAM_PREFIXES)


def escape_file_name(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes that are no UTF-8 become ``\\xe9``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def hidden_sibling(path: Path, ending: str) -> Path:
    """``out/photo.jpg`` → ``out/.1a2b3c4d.ENDING``: a short name, the same for the same file."""
    return path.with_name(f".{zlib.crc32(path.name.encode('utf-8', 'surrogateescape')):08x}.{ending}")


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it takes the place of ``path``, on any error it is removed.

    The temporary name keeps the suffix, since many writers choose the format by it. Of a link the file that it leads to is
    replaced. A pipe or a device, such as /dev/stdout, cannot be replaced: it is given itself.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(path, "is a folder, not a file", "name a file in it with `out`")
    if path.exists() and (not path.is_file() or is_standard_stream(path)):
        yield path
        return
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    make_folder(path.parent)
    # Always the same name for one file, so that what a killed process left is overwritten and not gathered; and a short
    # one, since a file system that takes the file's own name may not take it with something added.
    temporary = hidden_sibling(path, f"part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno not in _WRITE_ERRORS:
            raise
        raise OutputError(path, f"cannot be written ({error.strerror})", "choose another place with `out`") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``path``, which is new or empty, once it is complete; on any error it is removed.

    It lies beside ``path``; what a killed process left of an earlier one is removed first. Where a folder must stay the same,
    being a mount point, somebody's current folder, or in a folder that cannot be written, the temporary one lies hidden in it
    and its entries are moved. A folder that is replaced hands on its permissions. Where nothing was put into it, ``path`` stays as it was. Raises OutputError where ``path`` holds anything or cannot be
    written.
    """
    path = Path(os.path.realpath(path))
    temporary = f".{zlib.crc32(path.name.encode('utf-8', 'surrogateescape')):08x}.folder.part"
    if path.exists():
        make_folder(path)
        if any(entry.name != temporary for entry in path.iterdir()):
            raise OutputError(path, "is not empty", "choose another folder with `out`")
    is_fixed = path.exists() and _is_fixed_folder(path)
    place = path if is_fixed else make_folder(path.parent)
    staged = place / temporary
    shutil.rmtree(staged, ignore_errors=True)
    make_folder(staged)
    try:
        yield staged
        entries = list(staged.iterdir())
        if is_fixed:
            for entry in entries:
                entry.replace(path / entry.name)
        elif entries:
            if path.exists():
                shutil.copymode(path, staged)
                path.rmdir()
            staged.replace(path)
    except OSError as error:
        if error.errno not in _WRITE_ERRORS:
            raise
        raise OutputError(path, f"cannot be written ({error.strerror})", "choose another place with `out`") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _is_fixed_folder(folder: Path) -> bool:
    """Whether another folder cannot take the place of this one unnoticed."""
    return (
        os.path.ismount(folder)
        or Path.cwd().is_relative_to(folder)
        or folder.stat().st_mode & 0o7000 != 0  # set-group-ID hands its group on to what is made in it
        or not os.access(folder.parent, os.W_OK)
    )


def make_folder(path: str | Path, parameter: str = "out") -> Path:
    """Create a folder with its parents and return it.

    Raises OutputError if that is not possible. Its hint names the ``parameter`` that holds the path.
    """
    path, hint = Path(path), f"choose another folder with `{parameter}`"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(path, "is a file, not a folder", hint) from error
    except OSError as error:
        raise OutputError(path, f"cannot be created ({error.strerror})", hint) from error
    if not os.access(path, os.W_OK):
        raise OutputError(path, "is not writable", f"{hint} or change its permissions")
    return path


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with ``\\n`` line ends, whole or not at all."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: Any) -> None:
    """Write indented JSON, whole or not at all; file names in it become printable, as by ``printable``."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False).translate(_ESCAPED_BYTES) + "\n")
