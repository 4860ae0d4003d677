"""benchmarks/mutated.py in its tiny mode, and that it sees what it looks for."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import mutated
import pytest
from mutated_files import KINDS, Kind, make_valid_files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="memory of processes is limited by POSIX's means")


@pytest.mark.slow
def test_a_few_damaged_files_of_every_kind_are_read_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutated.main(["--tiny"]) == 0
    printed = capsys.readouterr().out
    for kind in KINDS:
        assert f"\n| {kind} | " in printed


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_files_that_are_damaged_are_valid(kind: Kind, tmp_path: Path) -> None:
    """Else every damage would be refused for another reason."""
    for name, content in make_valid_files(kind.name).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    names = sorted({name.partition("/")[0] for name in make_valid_files(kind.name)})
    assert names
    for name in names:
        kind.read(tmp_path / name)


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    kind = KINDS["records"]
    one, other = (mutated.mutate_files(kind, random.Random("7"), tmp_path).read_bytes() for _ in range(2))
    assert one == other not in make_valid_files("records").values()


def raise_key_error(path: Path) -> None:
    raise KeyError(path)


FAULTS = {
    "raises": (raise_key_error, "KeyError"),
    "dies": (lambda path: os._exit(3), "the process died"),
    "hangs": (lambda path: time.sleep(600), "took more than 1 s"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_goes_wrong_is_a_fault_and_the_next_file_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In forked workers: spawned ones would not know these readers."""
    read, why = FAULTS[name]
    marker = tmp_path / "was here"

    def broken_first(path: Path) -> None:
        if not marker.exists():
            marker.touch()
            read(path)

    monkeypatch.setitem(mutated.KINDS, "odd", Kind("odd", 1, lambda: {"a.bin": bytes(50)}, broken_first))
    monkeypatch.setattr(mutated, "START", "fork")
    monkeypatch.setattr(mutated, "MOST_SECONDS", 1.0)
    outcomes: list[mutated.Outcome] = []
    mutated.run([("odd", 0), ("odd", 1)], 0, 1, outcomes.append)
    assert [outcome.state for outcome in outcomes] == ["fault", "read"]
    assert why in outcomes[0].why
