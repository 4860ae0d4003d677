"""Freed memory: what another thread had is the system's again."""

from __future__ import annotations

import platform
import threading
from pathlib import Path

import numpy as np
import pytest

from mien.core.memory import is_out_of_memory, release_freed_memory

MB = 1 << 20


def resident() -> int:
    """Bytes of this process that lie in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed")
def test_what_a_thread_has_freed_goes_back() -> None:
    last = []

    def work() -> None:
        blocks = [np.ones(8_000) for _ in range(2_000)]  # 64 kB each, small enough for glibc to keep
        last.append(blocks[-1])  # lies above all others, so that glibc cannot give them back by itself

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    before = resident()
    release_freed_memory()
    assert before - resident() > 60 * MB
    assert last[0].sum() == 8_000


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (MemoryError(), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("std::bad_alloc"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("a network has no memory of this"), False),
        (ValueError("no face"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error: Exception, lacks: bool) -> None:
    assert is_out_of_memory(error) == lacks
