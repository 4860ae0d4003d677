from __future__ import annotations

import inspect
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mien.core.errors import OutputError
from mien.models import MODELS, build_network
from mien.models.drawing import draw_networks
from mien.models.drawing_layout import STRIPS, find_shortcuts, place_boxes, select_shown_steps, split_rows
from mien.models.summary import PICTURE, Summary, summarize_network


@cache
def summary_of(name: str, **arguments: object) -> Summary:
    with torch.device("meta"):
        network = build_network(name, num_classes=7, **arguments)
    return summarize_network(network, inspect.signature(MODELS[name]).parameters["channels"].default)


def test_shortcuts_go_around_the_blocks() -> None:
    steps = summary_of("residual").steps
    shown = select_shown_steps(steps)
    shortcuts = sorted(find_shortcuts(shown), key=lambda shortcut: shortcut.end)
    assert len(shortcuts) == 6
    assert steps[shortcuts[0].start].name == "stem.3"
    assert [[steps[index].name for index in shortcut.steps] for shortcut in shortcuts] == [
        [],
        [],
        ["stages.1.0.shortcut.0", "stages.1.0.shortcut.1"],
        [],
        ["stages.2.0.shortcut.0", "stages.2.0.shortcut.1"],
        [],
    ]
    # Each block but the first begins with the ReLU behind the addition of the one before.
    assert [steps[shortcut.start].kind for shortcut in shortcuts[1:]] == ["relu"] * 5
    assert all(before.end == after.start - 1 for before, after in pairwise(shortcuts))


def test_plain_networks_have_no_shortcut_and_what_changes_nothing_is_left_out() -> None:
    shown = select_shown_steps(summary_of("r1-lenet", norm=False).steps)
    assert find_shortcuts(shown) == []
    kinds = [step.kind for step, _ in shown.values()]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d", "Linear", "relu", "Linear"]


@pytest.mark.parametrize("name", [*MODELS, "deep"])
def test_every_layer_has_its_place(name: str) -> None:
    summary = summary_of("residual", blocks=9) if name == "deep" else summary_of(name)
    shown = select_shown_steps(summary.steps)
    shortcuts = find_shortcuts(shown)
    boxes = place_boxes(summary, shown, shortcuts)
    rows = split_rows(boxes, shortcuts)
    assert [box for row in rows for box in row] == boxes
    drawn = [box.index for box in boxes] + [index for shortcut in shortcuts for index in shortcut.steps]
    assert sorted(drawn) == [PICTURE, *shown]
    working = [index for index, step in enumerate(summary.steps) if step.multiply_adds]
    assert set(working) <= set(drawn)
    for before, box in pairwise(boxes):
        assert box.x > before.right or (box.family in STRIPS and box.x == before.right)
    labeled = [box for box in boxes if box.family not in (*STRIPS, "join")]
    assert min(after.middle - before.middle for before, after in pairwise(labeled)) > 0.35  # room for two lines
    for shortcut in shortcuts:  # whole in one row
        around = [index for index, row in enumerate(rows) for box in row if shortcut.start < box.index <= shortcut.end]
        assert len(set(around)) == 1
    assert all(row[-1].right - row[0].x < 14 for row in rows)


@pytest.mark.parametrize("name", MODELS)
def test_drawings_of_all_networks(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.png"
    draw_networks([(name, summary_of(name))], path)
    with Image.open(path) as picture:
        width, height = picture.size
        pixels = np.asarray(picture.convert("RGB"))
    assert 1100 < width < 2200
    assert 600 < height < 1500
    blue = (pixels == (0x56, 0xB4, 0xE9)).all(axis=2)  # convolutions
    orange = (pixels == (0xE6, 0x9F, 0x00)).all(axis=2)  # linear layers
    assert blue.sum() > 5_000
    assert orange.sum() > 1_000
    for edge in (pixels[:10], pixels[-10:], pixels[:, :10], pixels[:, -10:]):  # nothing is cut off
        assert edge.min() == 255


def test_a_higher_resolution_is_a_higher_box(tmp_path: Path) -> None:
    draw_networks([("r4-cnn", summary_of("r4-cnn"))], tmp_path / "x.png")
    pixels = np.asarray(Image.open(tmp_path / "x.png").convert("RGB"))
    blue = (pixels == (0x56, 0xB4, 0xE9)).all(axis=2)
    blue[:150] = False  # the legend
    heights = blue.sum(axis=0)
    runs = np.split(heights, np.flatnonzero(np.diff(heights > 0)) + 1)
    tops = [run.max() for run in runs if run.max() > 0]
    expected = 300 * np.sqrt(np.repeat([48, 24, 12, 6], 2) / 48)
    np.testing.assert_allclose(tops, expected, atol=4)


def test_several_networks_in_one_drawing_and_odd_titles(tmp_path: Path) -> None:
    summary = summary_of("r1-lenet")
    draw_networks([("one", summary)], tmp_path / "one.png")
    draw_networks([("a$b_{$", summary), ("folder/" * 30, summary)], tmp_path / "two.png")
    one, two = Image.open(tmp_path / "one.png"), Image.open(tmp_path / "two.png")
    assert two.width == one.width
    assert one.height < two.height < 2 * one.height
    draw_networks([("one", summary)], tmp_path / "one.svg")
    assert "<svg" in (tmp_path / "one.svg").read_text()
    with pytest.raises(OutputError, match="is a folder, not a file"):
        draw_networks([("one", summary)], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "one.svg", "two.png"]
