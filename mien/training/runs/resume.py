"""Resume a run: read its last checkpoint and check that it belongs to the same recipe, faces and hardware."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mien.core.errors import DataError, ModelError, OutputError, RecipeError
from mien.training.recipe import Recipe, has_same_settings, load_recipe, parse_recipe
from mien.training.runs.checkpoint import read_checkpoint

#: The keys that a checkpoint needs for resuming.
REQUIRED_KEYS = ("raw_weights", "optimizer", "averaged_steps", "generator", "torch_rng", "cuda_rng", "alpha", "history", "best",
          "recipe", "identity", "header")  # fmt: skip


def load_resume_state(folder: Path, recipe: Recipe, identity: dict[str, str], resume: bool) -> dict[str, Any] | None:
    """Return the last checkpoint of an interrupted run, None for a new run.

    Raises OutputError if the folder holds a run and ``resume`` is False, so that no run is overwritten by accident.
    """
    last = folder / "last.pt"
    if not last.exists():
        return None
    if not resume:
        raise OutputError(
            folder, "holds a run already", "continue it with `resume=True`, or choose another folder as `out`"
        )
    saved = read_checkpoint(last)
    if missing := [name for name in REQUIRED_KEYS if name not in saved]:
        problem = f"holds weights, but no training to resume (its last.pt has no {', '.join(missing[:3])})"
        raise OutputError(folder, problem, "start a new run with `start.model=RUN`")
    try:
        earlier = parse_recipe(json.loads(saved["recipe"]), str(folder))
        json.loads(saved["history"]), json.loads(saved["header"])["environment"], saved["identity"].keys()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(
            last, f"is a damaged checkpoint ({type(error).__name__}: {error})", "start a new run"
        ) from error
    if not has_same_settings(earlier, recipe):
        other = ", ".join(list_differences(earlier, recipe))
        hint = "resume with the same settings; to train further with others, start a new run with `start.model=RUN`"
        raise RecipeError(folder, f"was trained with other settings ({other})", hint)
    for what, hint in (
        ("faces", "give the same `data`, `exclude` and `skip_bad`"),
        ("hardware", "resume on the same kind of hardware, or set `run.device` and `run.precision` to its values"),
        ("teacher", "set `targets.teacher` to the teacher of the first epochs"),
    ):
        before = saved["identity"].get(what, identity[what])
        if before != identity[what]:
            problem = f"was trained with other {what} ({before}; now {identity[what]})"
            raise DataError(folder, problem, hint)
    return saved


def load_begun_recipe(folder: Path, recipe: Recipe, echo: Callable[[str], None]) -> Recipe:
    """Return the recipe that a run was begun with, with the settings that were changed then.

    echo: is told how ``recipe`` differs from it. Raises RecipeError for a run of another recipe.
    """
    stored = load_recipe(folder / "recipe.toml")
    if stored.name != recipe.name:
        problem = f"is a run of '{stored.name}', not of '{recipe.name}'"
        raise RecipeError(folder, problem, "name its recipe, or another folder as `out`")
    if changed := list_differences(stored, recipe):
        echo(f"note: the run continues with its own settings; in the recipe {'; '.join(changed)}")
    return stored


def list_differences(earlier: Recipe, recipe: Recipe) -> list[str]:
    """Return the settings that differ, as in ``["schedule.epochs was 10, now 14"]``."""
    before, now = earlier.model_dump(), recipe.model_dump()
    sections = [name for name, value in now.items() if isinstance(value, dict)]
    differences = [f"{name} was {before[name]!r}, now {now[name]!r}" for name in now
             if name not in (*sections, "description") and before[name] != now[name]]  # fmt: skip
    return differences + [
        f"{section}.{name} was {before[section][name]!r}, now {value!r}"
        for section in sections
        for name, value in now[section].items()
        if before[section][name] != value
    ]
