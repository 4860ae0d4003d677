from __future__ import annotations

from pathlib import Path

import pytest

from mien.core.errors import OutputError
from mien.core.files import make_folder, replacing, write_json


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "x.json"
    write_json(target, {"a": 1})
    with pytest.raises(RuntimeError), replacing(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert target.read_text() == '{\n  "a": 1\n}\n'
    assert [path.name for path in target.parent.iterdir()] == ["x.json"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="choose another folder with --out"):
            make_folder(wrong)
    with pytest.raises(OutputError, match="is a folder, not a file"), replacing(tmp_path) as part:
        part.write_text("a file where a folder is")
