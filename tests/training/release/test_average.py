from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.cli.main import main
from mien.core.errors import ModelError
from mien.data.readers import save_faces
from mien.training.release.average import average_models, update_batch_norms
from mien.training.runs.checkpoint import TrainedModel
from mien.training.torch_classifier import load_run
from tests.cli.conftest import complaint
from tests.conftest import patterns

pytestmark = pytest.mark.usefixtures("quick_export")


def twice(run: Path) -> tuple[TrainedModel, TrainedModel]:
    """A trained network, and the same with other weights."""
    one, other = load_run(run), load_run(run)
    with torch.no_grad():
        for parameter in other.network.parameters():
            parameter.mul_(1.5)
    return one, other


def test_weights_are_means_and_running_statistics_those_of_the_images(run_folder: Path) -> None:
    one, other = twice(run_folder)
    expected = {name: 1.25 * value for name, value in one.network.named_parameters()}
    images = torch.from_numpy(one.preprocessing.to_tensor(patterns(40).images))
    found = average_models([one, other], images, batch_size=40)
    for name, value in found.network.named_parameters():
        torch.testing.assert_close(value, expected[name])
    seen = []
    norm = next(module for module in found.network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    handle = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        found.network(images)
    handle.remove()
    torch.testing.assert_close(norm.running_mean, seen[0].mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-4)
    assert not found.network.training


def test_running_statistics_of_sorted_images_in_unequal_batches_are_those_of_all() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4)).train()
    brightness = torch.linspace(-3, 3, 330).view(-1, 1, 1, 1)  # sorted, as folders of classes are
    images = brightness + torch.randn(330, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        seen = network[0](images).double()
    update_batch_norms(network, images, 100, torch.Generator().manual_seed(2))
    # The last batch, of 30, counts less; plain means over batches in order have a fourteenth of the variance.
    torch.testing.assert_close(network[1].running_mean, seen.mean(dim=(0, 2, 3)).float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network[1].running_var, seen.var(dim=(0, 2, 3)).float(), rtol=0.05, atol=0)
    assert network[1].momentum == 0.1
    before = network[1].running_var.clone()
    update_batch_norms(network, images.flip(0), 100, torch.Generator().manual_seed(2))
    torch.testing.assert_close(network[1].running_var, before, rtol=0.05, atol=0)


def test_networks_that_differ_are_refused(run_folder: Path) -> None:
    one, other = twice(run_folder)
    with pytest.raises(ModelError, match="average trainings of one network on the same classes"):
        average_models([one, replace(other, classes=("a", "b"))], torch.zeros(2, 1, 48, 48))


def test_an_averaged_run_is_a_run(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_faces(patterns(40), "faces.csv")
    both = [str(run_folder), str(run_folder)]
    assert main(["average", *both, "--data", "faces.csv", "--out", "mean", "--quiet"]) == 0
    header = json.loads(Path("mean/log.jsonl").read_text().splitlines()[0])
    assert header["averaged"] == {"with": [run_folder.name], "faces": 40}
    for name, value in load_run(run_folder).network.named_parameters():
        torch.testing.assert_close(dict(load_run(Path("mean")).network.named_parameters())[name], value)
    assert main(["export", "mean", "--out", "mean.onnx", "--quiet"]) == 0
    assert "Model soups" in Path("mean.md").read_text()
    assert np.isfinite(load_run(Path("mean")).network.state_dict()["head.weight"].numpy()).all()
    assert main(["average", *both, "--data", "faces.csv", "--out", "mean"]) == 2
    assert "mean: is there already" in complaint(capsys)
    assert main(["average", both[0], "--data", "faces.csv", "--out", "other"]) == 2
    assert "name two or more" in complaint(capsys)
