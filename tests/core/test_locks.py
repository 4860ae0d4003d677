"""One process at a time: who holds a lock is said, and the lock of a dead process holds nobody up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mien.core.errors import OutputError
from mien.core.locks import hold_lock
from tests.conftest import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from mien.core.locks import hold_lock
with hold_lock(Path(sys.argv[1]), "out", "wait"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(lock: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(lock)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_held_lock_says_who_holds_it_and_is_free_when_that_process_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "new" / ".lock"
    process = holder(lock)
    try:
        with pytest.raises(OutputError) as caught, hold_lock(lock, "out/clip.*", "wait for it", wait_s=0):
            pass
        told = str(caught.value)
        assert told.startswith(f"out/clip.*: is being written by process {process.pid} since 20")
        assert told.endswith("; wait for it")
    finally:
        process.kill()
        process.communicate()
    assert lock.exists(), "a killed process removes nothing"
    with hold_lock(lock, "out", "wait", wait_s=0):
        assert lock.exists()
    assert not lock.exists()


def test_who_waits_gets_the_lock_when_it_is_given_back(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    process = holder(lock)
    process.stdin.write("\n")
    process.stdin.flush()
    with hold_lock(lock, "out", "wait", wait_s=120):
        process.communicate(timeout=120)
    assert process.returncode == 0


def test_two_blocks_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with (
        hold_lock(tmp_path / ".lock", "out", "wait"),
        pytest.raises(OutputError, match="is being written by process"),
        hold_lock(tmp_path / ".lock", "out", "wait", wait_s=0),
    ):
        pass


def test_a_file_that_is_no_lock_of_ours_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("[1, 2")
    with hold_lock(tmp_path / ".lock", "out", "wait", wait_s=0):
        assert f'"process": {os.getpid()}' in (tmp_path / ".lock").read_text()
