"""The `mien` program: one thin verb a command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def main() -> None:
    """mien reads facial expressions."""


@app.command()
def train(recipe: str, data: Annotated[list[Path], typer.Option()], out: Optional[Path] = None,
          set: Annotated[list[str], typer.Option("--set")] = [], resume: bool = False) -> None:
    """Train a network."""
    from mien.data import load_faces
    from mien.learn.recipe import load_recipe
    from mien.learn.train import train as run

    settings = load_recipe(recipe, set)
    run(settings, load_faces(data), out or Path("runs") / settings.name, resume=resume)


if __name__ == "__main__":
    app()
