"""What the C library does with memory that was freed: glibc keeps some of it for itself, and gives some back too early.

On other C libraries nothing is changed.
"""

from __future__ import annotations

import ctypes
import platform
import sys

#: What libraries say where the system gives them no memory or no thread. ONNX Runtime, OpenCV and Python's threads have errors of
#: their own for it.
_OUT_OF_MEMORY_TEXTS = (
    "can't start new thread", "bad_alloc", "bad allocation", "insufficient memory", "failed to allocate",
    "cannot allocate memory", "can't allocate", "out of memory", "resource temporarily unavailable",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the system has no more memory, or no more threads, whichever library raised it."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY_TEXTS)


def retain_freed_memory() -> None:
    """Tell the C library to keep what a training step frees for the next step, which asks for the same again.

    glibc gives blocks of more than 32 MB back to the system at once, and every step then waits while the system clears
    them anew. benchmarks/speed.py measures what it brings.
    """
    if (library := _load_glibc()) is not None:
        # The numbers of M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD in malloc.h.
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):
            library.mallopt(parameter, value)


def release_freed_memory() -> None:
    """Give what was freed back to the system, which takes a few milliseconds.

    What one thread freed glibc keeps for that thread: an encoder's memory stayed, and the next encoder, in another
    thread, took as much again.
    """
    if (library := _load_glibc()) is not None:
        library.malloc_trim(0)


def _load_glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" and platform.libc_ver()[0] == "glibc" else None
