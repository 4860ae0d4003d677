"""The benchmark's yardstick is the network that it is said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.mark.slow
def test_mini_xception_has_the_weights_that_its_authors_count(tmp_path: Path) -> None:
    import mini_xception
    import onnxruntime

    network = mini_xception.MiniXception()
    assert sum(p.numel() for p in network.parameters()) == 56_951
    for size in (48, 64):
        assert mini_xception.write(tmp_path / f"{size}.onnx", size) == 58_423
        session = onnxruntime.InferenceSession(str(tmp_path / f"{size}.onnx"))
        for count in (1, 5):
            (logits,) = session.run(None, {"images": np.zeros((count, 1, size, size), np.float32)})
            assert logits.shape == (count, 7)
    assert network.eval()(torch.zeros(2, 1, 48, 48)).shape == (2, 7)
