"""A lock file: only one process at a time writes the same files. The file says which process holds the lock."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from mien.core.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    import msvcrt

#: Windows locks bytes, which then cannot be read: a byte far behind the text of the file is locked.
_LOCK_OFFSET = 1 << 30

#: Errors that say that another process holds the lock. Other errors mean that the file system has no locks.
_HELD_ERRORS = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@contextmanager
def hold_lock(path: Path, name: object, hint: str, wait_s: float = 2.0, state: str = "written") -> Iterator[None]:
    """Hold the lock file ``path`` during the block.

    The operating system releases the lock when the process ends, so that no lock is ever stale. On a file system without
    locks, the block runs without one.

    Raises OutputError about ``name`` if another process still holds the lock after ``wait_s`` seconds. ``state`` says what
    that process does with it, as in "is being written by process 123".
    """
    until = time.monotonic() + wait_s
    while (file := _try_lock(path)) is None:
        if time.monotonic() >= until:
            raise OutputError(name, f"is being {state} by {_describe_holder(path)}", hint)
        time.sleep(0.05)
    try:
        yield
    finally:
        _release(path, file)


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock file ``path``."""
    if not path.exists() or (file := _try_lock(path)) is None:
        return path.exists()
    _release(path, file)
    return False


def _try_lock(path: Path) -> IO[str] | None:
    """Lock the file and write this process into it. Return the open file, or None if another process holds the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            file.seek(_LOCK_OFFSET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in _HELD_ERRORS:
            file.close()
            return None
    # The former holder may have removed the file between these two calls. Then this lock protects nothing.
    try:
        is_ours = os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        is_ours = False
    if not is_ours:
        file.close()
        return _try_lock(path)
    file.truncate(0)
    with suppress(OSError):  # a full disk: the lock holds anyway
        file.write(json.dumps({"process": os.getpid(), "since": datetime.now().astimezone().isoformat("T", "seconds")}))
        file.flush()
    return file


def _release(path: Path, file: IO[str]) -> None:
    if os.name == "posix":
        path.unlink(missing_ok=True)  # while it is held, so that the file of another process is not removed
    file.close()
    if os.name != "posix":
        with suppress(OSError):  # another process has it open and keeps it
            path.unlink(missing_ok=True)


def _describe_holder(path: Path) -> str:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return f"process {values['process']} since {values['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
