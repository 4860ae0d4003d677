from __future__ import annotations

import json
from pathlib import Path

import pytest

from mien.analysis.detection.detectors import make_detector
from mien.cli.main import main
from mien.data.readers import save_faces
from tests.conftest import ASTRONAUT, patterns


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "faces.csv"
    save_faces(patterns(40), path)
    return path


@pytest.mark.slow
def test_a_detector_is_trained_resumed_and_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train-detector", "--data", str(data), "--epochs", "1", "--scenes", "64", "--out", "run"]
    assert main(command) == 0
    assert "face.onnx: recall" in capsys.readouterr().out
    assert {path.name for path in Path("run").iterdir()} >= {"settings.json", "log.jsonl", "detector.pt", "face.onnx"}
    assert main(command) == 2
    assert "holds a training already; go on with --resume" in capsys.readouterr().err
    assert main([*command, "--resume", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["file"].endswith("face.onnx") and document["difference"] < 1e-3
    assert make_detector("auto", Path("run/face.onnx")).name == "mien"
    assert main(["analyze", str(ASTRONAUT), "--detector-model", "run/face.onnx", "--no-media", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["detector"] == "mien"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--photographs", "empty"], "empty: holds no photographs; name a folder with files .jpg"),
        (["--photographs", "missing"], "missing: is no folder"),
        (["--judge", "missing.onnx"], "missing.onnx: does not exist"),
        (["--epochs", "0"], "--epochs"),
    ],
)
def test_wrong_input_is_named(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert main(["train-detector", "--data", str(data), "--out", "run", *change]) == 2
    assert message in capsys.readouterr().err
    assert not Path("run").exists()
