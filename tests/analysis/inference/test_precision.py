"""Which of a model's two files is run, and who decides."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mien.analysis.inference import model_file as weights
from mien.analysis.inference import precision
from mien.analysis.inference.classifier import Classifier
from mien.analysis.inference.precision import PRECISION_VARIABLE, find_int8_instructions, resolve_precision
from mien.core.errors import ModelError, UsageError


@pytest.fixture(autouse=True)
def unforced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)


def test_the_linux_list_is_read_on_x86_and_arm(tmp_path: Path) -> None:
    cases = {
        "processor : 0\nflags\t\t: fpu avx2 avx512_vnni amx_int8\n": {"AVX2", "AVX512-VNNI", "AMX"},
        "processor : 0\nflags\t\t: fpu avx avx2_like avx_vnni_int16\n": set(),
        "processor : 0\nFeatures\t: fp asimd asimddp sve\n": {"ARM dot product"},
        "": set(),
    }
    for number, (text, found) in enumerate(cases.items()):
        file = tmp_path / str(number)
        file.write_text(text)
        assert precision._find_linux_instructions(file) == found


def test_the_option_comes_before_the_variable_and_both_name_their_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_precision("auto") == "auto"
    monkeypatch.setenv(PRECISION_VARIABLE, "float")
    assert (resolve_precision("auto"), resolve_precision("int8")) == ("float", "int8")
    monkeypatch.setenv(PRECISION_VARIABLE, "fp16")
    with pytest.raises(UsageError, match=r"MIEN_PRECISION fp16: is unknown; choose one of auto, float, int8"):
        resolve_precision("auto")
    with pytest.raises(UsageError, match="`precision=half`"):
        resolve_precision("half")


@pytest.mark.parametrize("name", list(weights.list_shipped_models()))
def test_both_files_of_a_shipped_model_run_and_agree(name: str) -> None:
    floats, bytes_ = Classifier(name, precision="float"), Classifier(name, precision="int8")
    assert (floats.precision, bytes_.precision) == ("float", "int8")
    assert floats.labels == bytes_.labels and floats.info.name == bytes_.info.name == name
    assert floats.info.temperature == bytes_.info.temperature and floats.info.thresholds == bytes_.info.thresholds
    images = np.random.default_rng(0).integers(0, 256, (16, 48, 48), dtype=np.uint8)
    difference = np.abs(floats.probabilities(images) - bytes_.probabilities(images))
    assert difference.mean() < 0.03
    assert bytes_.path.stat().st_size < 0.6 * floats.path.stat().st_size < 12e6


@pytest.mark.parametrize("name", list(weights.list_shipped_models()))
def test_an_int8_file_names_the_float_file_beside_it(name: str) -> None:
    import hashlib

    path = weights.list_shipped_models()[name]
    facts = weights.read_model_info(weights.int8_path(path)).quantization
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["agreement"]["float_accuracy"] - facts["agreement"]["accuracy"] <= 0.002


@pytest.mark.parametrize("name", list(weights.list_shipped_models()))
def test_two_products_of_bytes_fit_into_16_bits(name: str) -> None:
    """Else processors with AVX2 alone would answer differently, and worse."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(weights.int8_path(weights.list_shipped_models()[name]))).graph
    kernels = [array for array in map(numpy_helper.to_array, graph.initializer) if array.dtype == np.int8]
    assert sum(array.size for array in kernels) > 400_000
    assert max(int(np.abs(array.astype(int)).max()) for array in kernels) * 255 * 2 < 2**15


def test_auto_follows_the_processor_and_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "int8" if find_int8_instructions() and weights.list_providers() == ["CPUExecutionProvider"] else "float"
    assert Classifier("base").precision == expected
    for forced in ("float", "int8"):
        monkeypatch.setenv(PRECISION_VARIABLE, forced)
        assert Classifier("base").precision == forced


def test_a_path_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRECISION_VARIABLE, "int8")
    path = weights.list_shipped_models()["base"]
    mine = Path(shutil.copy(path, tmp_path / "mine.onnx"))
    assert Classifier(mine).precision == "float"
    assert Classifier(shutil.copy(weights.int8_path(path), tmp_path / "x.onnx")).precision == "int8"
    with pytest.raises(ModelError, match=r"mine.onnx: is float, not int8; name the int8 file itself"):
        Classifier(mine, precision="int8")


def test_torch_takes_the_float_file_of_a_name_and_refuses_the_other() -> None:
    from mien.models import load

    assert sum(p.numel() for p in load("base").parameters()) > 1e6
    with pytest.raises(ModelError, match=r"is quantized, so its network cannot be rebuilt; use base.onnx"):
        load(weights.int8_path(weights.list_shipped_models()["base"]))
