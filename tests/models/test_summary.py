from __future__ import annotations

import inspect
from functools import cache

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mien.models import MODELS, build_network
from mien.models.summary import PICTURE, Layer, Summary, count_multiply_adds, summarize_network


@cache
def summary_of(name: str, channels: int = 1, classes: int = 7) -> Summary:
    with torch.device("meta"):
        network = build_network(name, num_classes=classes, channels=channels)
    return summarize_network(network, channels)


def layer(summary: Summary, name: str) -> Layer:
    (found,) = [layer for layer in summary.layers if layer.name == name]
    return found


def test_r4_cnn_has_the_parameters_of_its_report() -> None:
    summary = summary_of("r4-cnn")
    assert (summary.parameters, summary.statistics) == (9_970_887, 5_888)
    assert summary.to_json()["totals"]["parameters_and_statistics"] == 9_976_775
    assert summary.megabytes == pytest.approx(4 * 9_976_775 / 1e6)
    assert layer(summary, "stages.0.0").shape == (64, 48, 48)
    assert layer(summary, "stages.0.1").parameters == 48 * 48 * 64  # a slope an activation
    assert layer(summary, "stages.0.6").shape == (64, 24, 24)
    assert layer(summary, "stages.3.0").parameters == 9 * 256 * 512 + 512
    assert layer(summary, "stages.3.2").statistics == 2 * 512
    assert layer(summary, "hidden.0").shape == (512 * 3 * 3,)
    assert layer(summary, "head").shape == (7,)
    convolutions = [(48, 1, 64), (48, 64, 64), (24, 64, 128), (24, 128, 128),
                    (12, 128, 256), (12, 256, 256), (6, 256, 512), (6, 512, 512)]  # fmt: skip
    macs = sum(side**2 * 9 * inputs * outputs for side, inputs, outputs in convolutions)
    assert summary.multiply_adds == macs + 4608 * 1024 + 1024 * 7


def test_r4_dnn_has_the_parameters_of_its_report() -> None:
    summary = summary_of("r4-dnn")
    assert (summary.parameters, summary.statistics) == (9_893_255, 512)
    assert summary.to_json()["totals"]["parameters_and_statistics"] == 9_893_767
    assert summary.multiply_adds == 48 * 48 * (64 + 3 * 64 * 64) + 147_456 * 64 + 64 * 7


def test_r1_final_has_the_parameters_of_its_report() -> None:
    summary = summary_of("r1-final")
    assert (summary.parameters, summary.statistics) == (39_636_295, 2 * (32 + 64 + 2 * 256 + 4096 + 2 * 256))
    convolutions = 9 * (48**2 * 32 + 24**2 * 32 * 64 + 12**2 * (64 * 256 + 256 * 256))
    assert summary.multiply_adds == convolutions + 9216 * 4096 + 4096 * 256 + 256 * 256 + 256 * 7


def test_r3_vgg_has_the_parameters_of_its_report() -> None:
    summary = summary_of("r3-vgg", channels=3, classes=5)
    assert (summary.parameters, summary.statistics) == (24_890_373, 2 * (64 + 128 + 256 + 512))
    convolutions = 9 * (48**2 * 3 * 64 + 24**2 * 64 * 128 + 12**2 * 128 * 256 + 6**2 * 256 * 512)
    assert summary.multiply_adds == convolutions + 4608 * 4096 + 4096 * 1024 + 1024 * 256 + 256 * 5


@pytest.mark.parametrize("name", MODELS)
def test_layers_add_up_to_the_network(name: str) -> None:
    channels = inspect.signature(MODELS[name]).parameters["channels"].default
    with torch.device("meta"):
        network = build_network(name, num_classes=7)
    summary = summarize_network(network, channels)
    assert sum(layer.parameters for layer in summary.layers) == summary.parameters
    assert summary.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert sum(layer.statistics for layer in summary.layers) == summary.statistics
    buffers = {name: buffer for name, buffer in network.named_buffers() if not name.endswith("num_batches_tracked")}
    assert summary.statistics == sum(buffer.numel() for buffer in buffers.values())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, channels, 48, 48, device="meta"))
    assert 2 * summary.multiply_adds == counter.get_total_flops()


def test_layers_stand_in_the_order_in_which_they_run() -> None:
    summary = summary_of("residual")
    names = [layer.name for layer in summary.layers]
    at = names.index("stages.1.0.conv1")
    assert names[at : at + 6] == [
        "stages.1.0.conv1",
        "stages.1.0.norm1",
        "stages.1.0.conv2",
        "stages.1.0.norm2",
        "stages.1.0.shortcut.0",
        "stages.1.0.shortcut.1",
    ]
    assert [layer(summary, name).shape for name in ("stem.0", "stem.1", "head")] == [(4, 24, 24), (64, 24, 24), (7,)]
    assert layer(summary, "stages.1.0.shortcut.0").detail == "1x1, stride 2"


def test_steps_know_what_they_read() -> None:
    steps = summary_of("residual").steps
    assert steps[0].inputs == (PICTURE,)
    additions = [step for step in steps if step.kind == "add"]
    assert len(additions) == 6
    first, third = additions[0], additions[2]
    assert [(steps[index].name, steps[index].kind) for index in first.inputs] == [
        ("stem.3", "ReLU"),  # around the identity, not through it
        ("stages.0.0.norm2", "BatchNorm2d"),
    ]
    assert [steps[index].name for index in third.inputs] == ["stages.1.0.shortcut.1", "stages.1.0.norm2"]


def test_a_module_that_runs_twice_is_listed_twice_and_its_parameters_counted_once() -> None:
    lenet = summary_of("r1-lenet")
    assert [layer.shape for layer in lenet.layers if layer.name == "pool"] == [(32, 24, 24), (64, 12, 12)]

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(self.norm(self.conv(images))))

    summary = summarize_network(Twice(), channels=4, size=6)
    assert [layer.parameters for layer in summary.layers] == [4 * 2 * 9 + 4, 8, 0, 0]
    assert [layer.statistics for layer in summary.layers] == [0, 8, 0, 0]
    assert [layer.multiply_adds for layer in summary.layers] == [36 * 9 * 4 * 2, 0, 36 * 9 * 4 * 2, 0]
    assert summary.layers[0].detail == "3x3, 2 groups"


def test_multiply_adds_of_one_module() -> None:
    assert count_multiply_adds(nn.Conv2d(3, 8, (3, 5), bias=False), (8, 10, 20)) == 8 * 10 * 20 * 15 * 3
    assert count_multiply_adds(nn.Conv2d(8, 8, 3, groups=8), (8, 4, 4)) == 8 * 16 * 9
    assert count_multiply_adds(nn.Linear(5, 7), (7,)) == 35
    assert count_multiply_adds(nn.Linear(5, 7), (16, 7)) == 16 * 35  # a layer on the last axis
    assert count_multiply_adds(nn.BatchNorm2d(8), (8, 4, 4)) == 0


def test_the_network_is_as_before_afterwards_also_if_it_fails() -> None:
    network = build_network("residual", num_classes=7, widths=[8, 8]).train()
    network.stem.eval()  # as fine-tuning with frozen norms has it
    modes = [module.training for module in network.modules()]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    summarize_network(network)
    with pytest.raises(RuntimeError):
        summarize_network(network, channels=3)
    assert [module.training for module in network.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
