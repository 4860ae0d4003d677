"""Freed memory in glibc: it keeps some blocks too long, and returns others to the system too early.

Other C libraries are not changed.
"""

from __future__ import annotations

import ctypes
import platform
import sys

#: Error texts of libraries that get no memory or no thread from the system. ONNX Runtime, OpenCV and Python's threads do not
#: raise MemoryError.
_OUT_OF_MEMORY_TEXTS = (
    "can't start new thread", "bad_alloc", "bad allocation", "insufficient memory", "failed to allocate",
    "cannot allocate memory", "can't allocate", "out of memory", "resource temporarily unavailable",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of any library says that the system has no more memory or threads."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY_TEXTS)


def retain_freed_memory() -> None:
    """Make the C library keep freed memory, since each training step allocates the same blocks again.

    By default glibc returns blocks of more than 32 MB to the system at once. Then every step waits while the system clears
    them again. benchmarks/speed.py measures the gain.
    """
    if (library := _load_glibc()) is not None:
        # The numbers of M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD in malloc.h.
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):
            library.mallopt(parameter, value)


def release_freed_memory() -> None:
    """Return freed memory to the system. This takes a few milliseconds.

    glibc keeps the freed memory of each thread for that thread. Without this call, each new encoder thread would allocate
    the memory of an encoder again.
    """
    if (library := _load_glibc()) is not None:
        library.malloc_trim(0)


def _load_glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" and platform.libc_ver()[0] == "glibc" else None
