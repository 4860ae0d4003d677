"""One process at a time where several would write the same files: a lock that says who holds it."""

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

#: Windows locks bytes, and lets nobody read those: one far behind what the file says of its holder.
_LOCK_OFFSET = 1 << 30

#: What an operating system answers where another process holds the lock; anything else means that there are no locks here.
_HELD_ERRORS = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@contextmanager
def hold_lock(path: Path, name: object, hint: str, wait_s: float = 2.0, state: str = "written") -> Iterator[None]:
    """Hold the lock file ``path`` for the block; OutputError about ``name`` where another process holds it for ``wait_s`` longer.

    The operating system takes the lock back when the process ends, however it ends: none is ever stale. On a file system
    without locks the block runs without one.
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
    """Whether a process holds the lock file ``path`` now."""
    if not path.exists() or (file := _try_lock(path)) is None:
        return path.exists()
    _release(path, file)
    return False


def _try_lock(path: Path) -> IO[str] | None:
    """The lock file, locked and with our name in it; None where another process holds it."""
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
    # Who held it before may have removed the file between our two calls; then that lock is worth nothing.
    try:
        is_ours = os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        is_ours = False
    if not is_ours:
        file.close()
        return _try_lock(path)
    file.truncate(0)
    with suppress(OSError):  # a full disk: the lock holds all the same
        file.write(json.dumps({"process": os.getpid(), "since": datetime.now().astimezone().isoformat("T", "seconds")}))
        file.flush()
    return file


def _release(path: Path, file: IO[str]) -> None:
    if os.name == "posix":
        path.unlink(missing_ok=True)  # while it is held, so that nobody's else is removed
    file.close()
    if os.name != "posix":
        with suppress(OSError):  # somebody has it open, who keeps it
            path.unlink(missing_ok=True)


def _describe_holder(path: Path) -> str:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return f"process {values['process']} since {values['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
