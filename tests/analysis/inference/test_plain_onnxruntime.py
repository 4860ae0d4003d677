"""The documents' way to run a model file without mien gives what the Recognizer gives."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from mien import Recognizer
from tests.conftest import ROOT


def recipe() -> str:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    section = page.split("## The model file without mien")[1]
    block = re.search(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert block is not None
    return "\n".join(line for line in block[1].splitlines() if not line.startswith("crop ="))


@pytest.mark.parametrize("shape", [(224, 224, 3), (48, 48, 3), (31, 40, 3), (100, 60, 3)])
def test_ten_lines_agree_with_the_recognizer(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    crop = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((28, 28, 1)))[: shape[0], : shape[1]].astype(np.uint8)
    given: dict[str, Any] = {"np": np, "crop": crop}
    exec(recipe(), given)
    theirs = Recognizer(str(files("mien") / "assets" / "base.onnx")).classify(crop[None])[0]
    np.testing.assert_allclose(given["probabilities"], theirs, atol=1e-6)
