from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mien.analysis.detection.detectors import MienDetector, detect_faces, make_detector
from mien.analysis.detection.face_net import FaceNetSession, draw_canvas
from mien.core.errors import DataError, ModelError, OutputError, UsageError
from mien.models.face_net import FaceNet
from mien.training.detection.export import export_detector
from mien.training.detection.train import DetectorSettings, detect_gray, load_detector, split_faces, train_detector
from tests.conftest import patterns, voted

SETTINGS = DetectorSettings(epochs=2, scenes=16, batch_size=8, mining_epochs=(1,), width=8, depth=1)


def train(folder: Path, settings: DetectorSettings = SETTINGS, *, resume: bool = False) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (30, 48, 48), dtype=np.uint8)
    photographs = [rng.integers(0, 256, (90, 130), dtype=np.uint8) for _ in range(3)]
    return train_detector(
        faces[:20], faces[20:], photographs[:2], photographs[2:], folder, settings,
        resume=resume, validation_scenes=4, echo=lambda text: None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector") / "run"
    train(folder)
    return folder


@pytest.fixture(scope="module")
def file(run: Path) -> Path:
    export_detector(load_detector(run), run / "face.onnx", threshold=0.5, facts={"name": "tiny"})
    return run / "face.onnx"


def test_a_resumed_training_equals_an_uninterrupted_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.training.detection import train as module

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "mine_places", interrupt)  # before the second epoch
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1
    train(tmp_path, resume=True)
    whole, resumed = (torch.load(folder / "detector.pt", weights_only=True) for folder in (run, tmp_path))
    for part in ("weights", "network"):
        assert all(torch.equal(whole[part][name], resumed[part][name]) for name in whole[part])
    assert whole["mined"] == resumed["mined"]


def test_a_folder_of_another_training_is_not_overwritten(run: Path) -> None:
    with pytest.raises(OutputError, match="holds a training already"):
        train(run)
    with pytest.raises(OutputError, match="other settings"):
        train(run, DetectorSettings(epochs=3, scenes=16, batch_size=8, width=8, depth=1), resume=True)


@pytest.mark.parametrize("shape", [(64, 64), (50, 333), (401, 97)])
def test_the_file_finds_what_the_torch_network_finds(file: Path, run: Path, shape: tuple[int, int]) -> None:
    gray = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    canvas, _ = draw_canvas(gray)
    with torch.no_grad():
        expected = load_detector(run)(torch.from_numpy(canvas)[None, None]).numpy()
    assert np.abs(FaceNetSession(file).compute_answers(canvas) - expected).max() < 1e-3
    found = MienDetector(file, threshold=0.01, threads=1).detect(gray)
    reference = detect_gray(load_detector(run), gray, 0.01)
    assert np.allclose(found.boxes_xyxy, reference.boxes_xyxy, atol=0.1)
    assert np.allclose(found.scores, reference.scores, atol=1e-3)


def test_the_detector_takes_color_as_its_luminance_and_serves_several_threads(file: Path) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    detector = MienDetector(file, threshold=0.01)
    of_color, of_gray = detect_faces(detector, picture), detect_faces(detector.with_threads(1), gray)
    assert (of_color.boxes_xyxy == of_gray.boxes_xyxy).all() and len(of_color)
    assert len(detector.digest) == 64


def test_the_file_chooses_the_detector_and_a_wrong_one_is_refused(file: Path, tmp_path: Path) -> None:
    assert make_detector("auto", file).name == "mien"
    with pytest.raises(UsageError, match="another detector"):
        make_detector("yunet", file)
    broken = tmp_path / "broken.onnx"
    content = file.read_bytes()
    broken.write_bytes(content[: len(content) // 2] + content[-400:])
    with pytest.raises(ModelError, match="is not a"):
        make_detector("auto", broken)


def test_a_damaged_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "detector.pt").write_bytes((run / "detector.pt").read_bytes()[:500])
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        train(tmp_path, resume=True)


def test_the_settings_of_a_run_are_readable(run: Path) -> None:
    settings = json.loads((run / "settings.json").read_text())
    assert settings["epochs"] == 2 and settings["mining_epochs"] == [1]
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2] and all(0 <= row["recall"] <= 1 for row in rows)


def test_the_network_sees_a_face_with_its_surroundings() -> None:
    network = FaceNet(8, 2).eval()
    image = (torch.rand(1, 1, 128, 128) * 255).requires_grad_()
    network(image)[0, 0, 8, 8].backward()
    assert image.grad is not None
    rows = torch.nonzero(image.grad[0, 0].abs().sum(dim=1)).ravel()
    assert (int(rows.min()), int(rows.max())) == (64 - 23, 64 + 23)  # 15 + 16 × depth pixels


def test_faces_that_annotators_reject_and_test_faces_do_not_train() -> None:
    faces = voted(patterns(30), *[{"not_a_face": 1, "neutral": 9}] * 3, *[{"neutral": 10}] * 27)
    faces = replace(faces, split=np.array(["Training"] * 10 + ["PublicTest"] * 10 + ["PrivateTest"] * 10))
    assert [len(part) for part in split_faces(faces)] == [7, 10]
    with pytest.raises(DataError, match="0 for validation"):
        split_faces(patterns(5))
