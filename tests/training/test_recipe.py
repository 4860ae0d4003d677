from __future__ import annotations

from pathlib import Path

import pytest

from mien.core.errors import RecipeError
from mien.training.recipe import Recipe, load_recipe, shipped_recipes


@pytest.mark.parametrize("name", list(shipped_recipes()))
def test_shipped_recipes_are_valid_and_survive_toml(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    (tmp_path / "again.toml").write_text(recipe.to_toml())
    assert recipe.name == name
    assert load_recipe(tmp_path / "again.toml") == recipe


def test_settings_given_on_the_command_line() -> None:
    recipe = load_recipe("base", ["schedule.epochs=3", "run.device=cpu", 'data.classes=["happy", "sad"]',
                                  "network.arguments.blocks=1"])  # fmt: skip
    assert (recipe.schedule.epochs, recipe.run.device, recipe.data.classes) == (3, "cpu", ["happy", "sad"])
    assert recipe.network.arguments == {"widths": [64, 128, 256], "blocks": 1}
    assert load_recipe("base", ["data.classes=happy, sad"]).data.classes == ["happy", "sad"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rate=1", r"unknown key 'optimizer.learning_rate'; known here: name, lr"),
        ("optimizer.momntum=1", "did you mean 'momentum'"),
        ("shedule.epochs=1", "did you mean 'schedule'"),
        ("epochs=1", "did you mean 'schedule.epochs'"),
        ("schedule.epochs=0", "schedule.epochs = 0: input should be greater than or equal to 1"),
        ("schedule.epochs=many", "schedule.epochs = 'many'"),
        ("name=../elsewhere", "name = '../elsewhere'"),
        ("augment.flip=1.5", "augment.flip = 1.5"),
        ("loss.name=hinge", "loss.name = 'hinge'"),
        ("schedule.epochs", "is not of the form section.key=value"),
        ("name.first=x", "'name' is a value, not a section"),
        ("data.validation=", "data.validation = '': string should have at least 1 character"),
        ("run.seed=-1", "run.seed = -1: input should be greater than or equal to 0"),
        ("optimizer.lr=inf", "optimizer.lr = inf: input should be a finite number"),
        ("loss.class_weights=[1, -1]", r"'base': loss.class_weights are \[1.0, -1.0\]: none may be below 0"),
        ("loss.class_weights=[0, 0]", "none may be below 0, and not all 0"),
        ("schedule.min_lr=0.5", "'base': schedule.min_lr is above optimizer.lr"),
        (
            "network.arguments={num_classes = 9}",
            "'base': network.arguments has num_classes, which data and input define",
        ),
        ("start.freeze=['stem']", "'base': start.freeze without start.model would freeze random weights; change it$"),
        ("targets.teacher='+'", r"'base': targets.teacher is '\+', which names no model; change it$"),
    ],
)
def test_wrong_settings_name_themselves_and_their_neighbors(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("base", [override])


def test_unknown_and_broken_recipes(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError,
        match=r"choose one of base-second, base-third, base, ferplus, full-resolution, large, nano, r1-alexnet, .*strong or a \.toml file",
    ):
        load_recipe("bass")
    (tmp_path / "x.toml").write_text("epochs = = 3")
    with pytest.raises(RecipeError, match=r"x.toml: is not TOML"):
        load_recipe(tmp_path / "x.toml")


def test_every_setting_survives_toml_with_awkward_text(tmp_path: Path) -> None:
    recipe = Recipe(
        name='a "quoted" name', description="two\nlines \\ and", network={"arguments": {"widths": [1], "on": True}}
    )
    (tmp_path / "x.toml").write_text(recipe.to_toml())
    assert load_recipe(tmp_path / "x.toml") == recipe


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "x = " + "9" * 5_000, b"name = '\xff'", "x = {a = " * 5_000])
def test_what_no_parser_can_read_is_no_toml(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "deep.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(RecipeError, match="is not TOML"):
        load_recipe(path)


def test_a_setting_that_no_parser_can_read_is_a_text() -> None:
    with pytest.raises(RecipeError, match=r"schedule\.epochs"):
        load_recipe("base", ["schedule.epochs=" + "[" * 100_000])
    with pytest.raises(RecipeError, match=r"schedule\.epochs"):
        load_recipe("base", ["schedule.epochs=" + "9" * 5_000])
