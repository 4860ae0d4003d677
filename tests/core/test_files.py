from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from mien.core.errors import OutputError
from mien.core.files import (
    escape_file_name,
    find_file_problem,
    make_folder,
    replace_file,
    replace_folder,
    walk_files,
    write_json,
    write_text,
)


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "x.json"
    write_json(target, {"a": 1})
    with pytest.raises(RuntimeError), replace_file(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert target.read_text() == '{\n  "a": 1\n}\n'
    assert [path.name for path in target.parent.iterdir()] == ["x.json"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="choose another folder with `out`"):
            make_folder(wrong)
    with pytest.raises(OutputError, match="is a folder, not a file"), replace_file(tmp_path) as part:
        part.write_text("a file where a folder is")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such links and devices")
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "deep" / "real.txt", tmp_path / "link.txt"
    write_text(real, "old")
    link.symlink_to(real)
    write_text(link, "new")
    assert link.is_symlink() and real.read_text() == "new"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such links and devices")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()
    assert find_file_problem(pipe, "a picture") == (
        "is a pipe or a device, not a picture", "save what comes from it to a file first")  # fmt: skip


def test_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    for name, content, found in (("gone", None, "does not exist"), ("empty", b"", "is empty"), ("whole", b"x", None)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        fault = find_file_problem(tmp_path / name, "a picture")
        assert fault is None if found is None else fault[0].startswith(found)
    assert find_file_problem(tmp_path, "a picture")[0] == "is a folder, not a picture"


def test_hidden_files_are_passed_over_and_a_link_does_not_hide_its_folder(tmp_path: Path) -> None:
    for name in ("happy/a.png", ".git/b.png", "happy/.part.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".latest").symlink_to(tmp_path / "happy", target_is_directory=True)
    (tmp_path / "Also").symlink_to(tmp_path / "happy", target_is_directory=True)
    assert list(walk_files(tmp_path)) == [tmp_path / "happy" / "a.png"]


def test_bytes_that_are_no_text_are_escaped_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"file": "caf\udce9 ü.mp4"})
    read = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert read == {"file": escape_file_name("caf\udce9 ü.mp4")} == {"file": r"caf\xe9 ü.mp4"}


def test_what_shells_share_memory_in_is_replaced_like_any_file() -> None:
    folder = Path("/dev/shm")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        pytest.skip("there is no /dev/shm here")
    target = folder / f"mien-test-{os.getpid()}.txt"
    try:
        write_text(target, "old")
        with pytest.raises(RuntimeError), replace_file(target) as part:
            part.write_text("half")
            raise RuntimeError
        assert target.read_text() == "old"
    finally:
        target.unlink()


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt), replace_folder(target) as staged:
        (staged / "one.png").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with replace_folder(target) as staged:
        left = staged
        (staged / "angry").mkdir()
        (staged / "angry" / "one.png").touch()
        assert not target.exists()
    assert [path.name for path in target.rglob("*")] == ["angry", "one.png"]
    with pytest.raises(OutputError, match="is not empty; choose another folder"), replace_folder(target):
        pytest.fail("began to write")
    shutil.rmtree(target)
    left.mkdir()  # as a killed process leaves it
    (left / "old.png").touch()
    target.mkdir()
    with replace_folder(target) as staged:
        (staged / "new.png").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["set", "new.png"]


def test_a_folder_that_cannot_be_replaced_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path)
    with replace_folder(tmp_path) as left:
        assert left.parent == tmp_path
    left.mkdir()  # as a killed process leaves it
    (left / "old.png").touch()
    assert list(walk_files(tmp_path)) == []
    with replace_folder(tmp_path) as staged:
        (staged / "new.png").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["new.png"]


def test_a_full_disk_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left on device"), replace_folder(tmp_path / "set") as staged:
        (staged / "one.png").touch()
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_somebody_stands_in_or_protected_stays_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, private = tmp_path / "here", tmp_path / "private"
    here.mkdir()
    private.mkdir(mode=0o700)
    monkeypatch.chdir(here)
    for folder in (here, private):
        with replace_folder(folder) as staged:
            (staged / "a.png").touch()
    assert [path.name for path in Path().iterdir()] == ["a.png"]  # and not that of a folder that is gone
    assert (private / "a.png").exists()
    if os.name == "posix":
        assert private.stat().st_mode & 0o777 == 0o700
