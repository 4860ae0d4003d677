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

#: Errors of the operating system that concern the path, not the program.
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


#: Standard streams. A shell may redirect them to a file, which must not be replaced.
_STREAM_PREFIXES = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")


#: Bytes of a file's name that are no UTF-8: as Python represents them → as text in a JSON string.
_ESCAPED_BYTES = {0xDC00 + byte: f"\\\\x{byte:02x}" for byte in range(0x80, 0x100)}


def cache_folder() -> Path:
    """Return the folder named by MIEN_CACHE, or the system's cache folder of mien. It may not exist yet."""
    return Path(os.environ.get("MIEN_CACHE") or platformdirs.user_cache_dir("mien", appauthor=False))


def find_file_problem(path: Path, kind: str) -> tuple[str, str] | None:
    """Return (problem, hint) for a path that should be a readable file, or None.

    ``kind`` says what the file should be, as in "a picture".
    """
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
    """Yield all files in a folder and its subfolders, except hidden ones. Links to folders are followed.

    Each folder is entered once, also if a link leads back to it. A folder has precedence over links to it.
    ``on_error`` is called with the error of each folder that cannot be read.
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
    """Return whether a path is a standard stream of the program, such as /dev/stdout."""
    return Path(path).as_posix().startswith(_STREAM_PREFIXES)


def escape_file_name(name: str) -> str:
    """Return a file's name as valid Unicode: bytes that are no UTF-8 become escapes such as ``\\xe9``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def hidden_sibling(path: Path, ending: str) -> Path:
    """Return a short hidden path in the same folder: ``out/photo.jpg`` → ``out/.1a2b3c4d.ENDING``, always the same."""
    return path.with_name(f".{zlib.crc32(path.name.encode('utf-8', 'surrogateescape')):08x}.{ending}")


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces ``path`` on success. On any error it is removed.

    The temporary name has the same suffix, since many writers choose the format by it. For a link, the target is replaced.
    A pipe or a device, such as /dev/stdout, cannot be replaced and is yielded itself.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(path, "is a folder, not a file", "name a file in it with `out`")
    if path.exists() and (not path.is_file() or is_standard_stream(path)):
        yield path
        return
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    make_folder(path.parent)
    # The name is always the same for one file, so that the rest of a killed process is overwritten. It is short, since
    # a longer name than the file's own may exceed the limit of the file system.
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
    """Yield a temporary folder, which becomes ``path`` on success. On any error it is removed.

    ``path`` must be new or empty. It keeps its permissions, and it is not changed if nothing was written.
    The temporary folder lies in the same folder as ``path``. The rest of a killed process is removed first.
    Some folders cannot be replaced: mount points, the current folder, and those in a folder that is not writable. Then the
    temporary folder lies hidden inside ``path``, and its entries are moved.

    Raises OutputError if ``path`` is not empty or cannot be written.
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
    """Return whether a folder cannot be replaced by another one without side effects."""
    return (
        os.path.ismount(folder)
        or Path.cwd().is_relative_to(folder)
        or folder.stat().st_mode & 0o7000 != 0  # set-group-ID: new entries inherit its group
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
    """Write UTF-8 text with ``\\n`` line ends, completely or not at all."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: Any) -> None:
    """Write indented JSON, completely or not at all. File names in it are escaped as by `escape_file_name`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False).translate(_ESCAPED_BYTES) + "\n")
