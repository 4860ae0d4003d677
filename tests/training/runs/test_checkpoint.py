"""Checkpoints that are damaged, crafted or cannot be written: one line with what to do, and nothing half written."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mien.cli.main import main
from mien.core.errors import ModelError, OutputError
from mien.data.readers import save_faces
from mien.training.runs.checkpoint import load_trained_model, save_trained_model
from mien.training.torch_classifier import load_run, read_log
from tests.cli.conftest import complaint
from tests.conftest import patterns


def set_to(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda contents: contents.__setitem__(key, value)


def arguments(**changed: Any) -> Callable[[dict[str, Any]], None]:
    return lambda contents: contents["arguments"].update(changed)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (set_to("arguments", 3), "is a damaged checkpoint"),
        (set_to("arguments", {}), "is a damaged checkpoint"),
        (set_to("network", ["residual"]), "is not a text"),
        (set_to("network", "resnet9000"), "is unknown"),
        (set_to("classes", 7), "is a damaged checkpoint"),
        (set_to("classes", ["angry", "happy"]), "2 class names for 7 classes"),
        (set_to("classes", [1, 2, 3, 4, 5, 6, 7]), "is not a text"),
        (set_to("preprocessing", []), "is a damaged checkpoint"),
        (set_to("preprocessing", {"size": "48"}), "is a damaged checkpoint"),
        (set_to("weights", {}), "is a damaged checkpoint"),
        (set_to("weights", [1]), "is a damaged checkpoint"),
        (set_to("epoch", "many"), "is a damaged checkpoint"),
        (arguments(blocks=1_000_000), "has blocks of 1000000; give at most 100"),
        (arguments(blocks=2), "is a damaged checkpoint"),
        (arguments(widths=[8, 16_000]), "weights, the file"),
        (arguments(widths=[8] * 100_000), "has the number of widths of 100000"),
        (arguments(widths="wide"), "is a damaged checkpoint"),
        (arguments(num_classes=10**9), "has num_classes of 1000000000"),
        (lambda contents: contents.pop("weights"), "is a damaged checkpoint"),
    ],
)
def test_a_checkpoint_that_is_not_what_it_says_is_refused(
    run_folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], found: str
) -> None:
    contents = torch.load(run_folder / "last.pt", weights_only=True)
    change(contents)
    torch.save(contents, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=found) as error:
        load_trained_model(tmp_path / "x.pt")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    contents = torch.load(run_folder / "last.pt", weights_only=True)
    contents["weights"]["head.bias"][2] = value
    torch.save(contents, tmp_path / "x.pt")
    save_faces(patterns(7), tmp_path / "faces.csv")
    assert main(["evaluate", str(tmp_path / "x.pt"), "--data", str(tmp_path / "faces.csv")]) == 2
    assert "has weights that are not finite numbers (head.bias); train again" in complaint(capsys)


def test_a_full_disk_is_named_and_leaves_the_last_checkpoint(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = load_run(run_folder)
    save_trained_model(tmp_path / "last.pt", trained)
    before = (tmp_path / "last.pt").read_bytes()

    class FullDisk:
        """The file of a disk that takes 1,000 bytes more."""

        def __init__(self, file: Any) -> None:
            self.file, self.left = file, 1_000

        def write(self, data: Any) -> int:
            self.left -= len(memoryview(data).cast("B"))
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def __enter__(self) -> FullDisk:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", **more: FullDisk(opened(path, mode, **more)))
    with pytest.raises(OutputError, match=r"last\.pt: cannot be written \(No space left on device\)"):
        save_trained_model(tmp_path / "last.pt", trained)
    monkeypatch.undo()
    assert (tmp_path / "last.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("text", ["", "{", "[1]\n", "[" * 100_000, '{"a": ' + "9" * 5_000 + "}\n"])
def test_a_damaged_log_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(ModelError, match="is a damaged log"):
        read_log(tmp_path)


def test_a_folder_of_weights_alone_is_no_training_to_go_on_with(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_bytes((run_folder / "recipe.toml").read_bytes())
    save_trained_model(tmp_path / "run" / "last.pt", load_run(run_folder))
    save_faces(patterns(70), tmp_path / "faces.csv")
    command = ["train", str(run_folder / "recipe.toml"), "--data", str(tmp_path / "faces.csv")]
    assert main([*command, "--out", str(tmp_path / "run"), "--resume"]) == 2
    assert "holds weights, but no training to resume" in complaint(capsys)
