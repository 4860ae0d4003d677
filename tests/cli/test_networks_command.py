from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.cli.main import main
from tests.cli.conftest import complaint, outputs


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main(["networks", "show", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("arguments", [["networks"], ["networks", "list"]])
def test_one_line_a_network(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from mien.models import MODELS

    assert main(arguments) == 0
    out, err = capsys.readouterr()
    head, *lines = out.splitlines()
    assert head.split() == ["name", "input", "parameters", "multiply-adds", "about"]
    assert [line.split()[0] for line in lines] == list(MODELS)
    values = {line.split()[0]: line.split()[1:4] for line in lines}
    assert values["r4-cnn"] == ["1x48x48", "9,970,887", "473,193,472"]
    assert values["r3-vgg"][0] == "3x48x48"  # what it was written for
    assert "CCP CCP CCP CCP FF" in out
    assert [line.rpartition("[")[2] for line in lines if "r5-resnet" in line] == ["blocks 1]", "blocks 2]"]
    assert err == ""


def test_the_list_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["networks", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["r4-dnn"]["parameters"] + rows["r4-dnn"]["statistics"] == 9_893_767
    assert rows["residual"]["input"] == [1, 48, 48]
    assert rows["r5-resnet25"]["arguments"] == {
        "num_classes": 7, "channels": 1, "size": 48, "blocks": 2, "widths": [64, 128, 256, 512], "dropout": 0.3,
    }  # fmt: skip
    assert main(["networks", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == list(rows.values())


def test_the_layer_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["networks", "show", "r4-cnn"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "r4-cnn, input 1 x 48 x 48"
    assert lines[1] == "arguments: num_classes=7, channels=1, size=48, dropout=0.25, hidden_dropout=0.5"
    assert lines[3].split() == ["layer", "kind", "output", "parameters", "multiply-adds"]
    assert lines[4].split() == ["stages.0.0", "Conv2d", "3x3", "64", "x", "48", "x", "48", "640", "1,327,104"]
    assert "head        Linear           7                   7,175          7,168" in lines
    assert [line.split()[-2:] for line in lines[-5:]] == [
        ["parameters", "9,970,887"],
        ["statistics", "5,888"],
        ["counts", "9,976,775"],
        ["multiply-adds", "473,193,472"],
        ["39.9", "MB"],
    ]
    assert len({len(line) for line in lines[3:-6]}) == 1  # right-aligned numbers
    assert err == ""


def test_channels_classes_size_and_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    report = shown(capsys, "r3-vgg", "--classes", "5")
    assert (report["input"], report["totals"]["parameters"]) == ([3, 48, 48], 24_890_373)
    assert shown(capsys, "r3-vgg", "--channels", "1")["totals"]["parameters"] == 24_890_887 - 2 * 9 * 64
    large = shown(capsys, "residual", "--size", "96", "--set", "widths=[8, 16]", "--set", "blocks=1")
    expected = {"num_classes": 7, "channels": 1, "widths": [8, 16], "blocks": 1, "dropout": 0.0, "zero_init": False,
                "full_resolution": False}  # fmt: skip
    assert large["arguments"] == expected
    assert large["layers"][0] == {
        "name": "stem.0", "kind": "PixelUnshuffle", "detail": "2x2", "shape": [4, 48, 48],
        "parameters": 0, "statistics": 0, "multiply_adds": 0,
    }  # fmt: skip
    stem = shown(capsys, "r2-resnet18", "--set", "stem=7x7")
    assert stem["totals"] == shown(capsys, "r1-resnet18")["totals"]
    plain = shown(capsys, "r1-lenet", "--set", "norm=false", "--set", "num_classes=2")
    assert (plain["totals"]["statistics"], plain["layers"][-1]["shape"]) == (0, [2])


def test_a_drawing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["networks", "show", "r5-resnet25", "--out", "deep/net.png"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "wrote deep/net.png"
    with Image.open("deep/net.png") as picture:
        assert picture.size[0] > 1200
        assert picture.size[1] > 700
        pixels = np.asarray(picture.convert("L"))
    assert 0.01 < (pixels < 128).mean() < 0.5
    assert outputs(".") == ["deep/net.png"]
    assert main(["networks", "show", "r1-lenet", "--out", "net.svg", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"] == "r1-lenet"
    assert outputs(".") == ["deep/net.png", "net.svg"]


def test_the_network_of_a_trained_model(run_folder: Path, model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = shown(capsys, "residual", "--set", "widths=[8, 16]", "--set", "blocks=1")
    for model in (run_folder, run_folder / "last.pt", model_file):
        report = shown(capsys, str(model))
        assert (report["name"], report["network"]) == (str(model), "residual")
        assert report["layers"] == small["layers"]
        assert report["arguments"]["widths"] == [8, 16]
    assert shown(capsys, "base")["network"] == "residual"


def test_an_ensemble_is_drawn_member_by_member_and_so_is_one_in_it(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mien.training.torch_classifier
    from mien.core.labels import FER2013
    from mien.core.preprocessing import Preprocessing
    from mien.models import build_network
    from mien.training.runs.checkpoint import TrainedModel

    member = {"name": "r1-lenet", "arguments": {"num_classes": 7}, "mean": [0.5], "std": [0.3], "temperature": 1.0}
    rgb = member | {"mean": [0.5] * 3, "std": [0.3] * 3, "arguments": {"num_classes": 7, "channels": 3}}
    both = {"members": [member, rgb], "weights": [0.6, 0.4]}
    inner = {"name": "ensemble", "arguments": both, "mean": [0.0], "std": [1.0], "temperature": 1.0}
    arguments = {"members": [inner, member], "weights": [0.5, 0.5]}
    trained = TrainedModel(
        build_network("ensemble", **arguments),
        "pair",
        "ensemble",
        arguments,
        FER2013,
        Preprocessing(mean=(0.0,), std=(1.0,)),
        0,
    )
    monkeypatch.setattr(mien.training.torch_classifier, "open_trained_model", lambda model: trained)
    assert main(["networks", "show", str(model_file), "--out", "all.png"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "ensemble, input 1 x 48 x 48"
    assert "networks.0.networks.1.head" in out
    assert out.splitlines()[1] == "arguments: weights=[0.5, 0.5]"
    main(["networks", "show", "r1-lenet", "--out", "one.png"])
    one, drawn = Image.open("one.png"), Image.open("all.png")
    assert one.height * 2.5 < drawn.height < 3 * one.height


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show"], "missing argument 'NAME'; see 'mien networks show --help'"),
        (["show", "vgg"], "network 'vgg': is unknown; choose one of residual, r1-lenet,"),
        (["show", "ensemble"], "network 'ensemble': is unknown; choose one of residual,"),
        (["show", "absent.onnx"], "absent.onnx: does not exist"),
        (["show", "absent.pt"], "absent.pt: does not exist"),
        (["show", "."], ".: holds no trained network"),
        (["show", "base", "--classes", "5"], "--classes: cannot change the trained network of base; leave it out"),
        (["show", "r4-cnn", "--size", "4"], "invalid value for '--size'"),
        (["show", "r4-cnn", "--channels", "0"], "invalid value for '--channels'"),
        (
            ["show", "r5-resnet17", "--size", "50"],
            "cannot take pictures of 1 x 50 x 50 pixels; change --size, the side of the pictures, a multiple of 16",
        ),
        (["show", "r4-cnn", "--set", "dropout"], "--set dropout: is not of the form key=value; as in"),
        (["show", "r4-cnn", "--set", "depth=3"], "has no argument 'depth'; it has num_classes, channels, size,"),
        (["show", "r4-cnn", "--set", "dropout=5"], "cannot be built like this (dropout probability has to be"),
        (["show", "r4-cnn", "--set", "num_classes=two"], "--set num_classes=two: input should be a valid integer"),
        (["show", "residual", "--set", "widths=8"], "input should be an instance of sequence; its default is [64,"),
        (["show", "r1-resnet18", "--set", "stem=5x5"], "input should be '7x7' or '3x3'; its default is \"7x7\""),
        (["show", "r4-cnn", "--out", "x.txt"], "--out x.txt: is no drawing; end it in .png, .svg, .pdf"),
        (["--json", "show", "r4-cnn"], "--json: stands before 'show'; write it behind"),
        (["draw"], "no such command 'draw'"),
    ],
)
def test_wrong_input_gives_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["networks", *arguments]) == 2
    assert message in complaint(capsys)
    assert outputs(".") == []


@pytest.mark.parametrize("verb", [[], ["list"], ["show"]])
def test_help(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["networks", *verb, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: {' '.join(['mien', 'networks', *verb])}")
    assert err == ""


def test_without_torch_it_names_the_install_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else found(name, *rest)
    )
    assert main(["networks"]) == 2
    assert "pip install 'mien[train]'" in complaint(capsys)
