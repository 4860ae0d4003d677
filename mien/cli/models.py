"""`mien models`: the files that can be run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mien.analysis.inference.model_file import (
    PULLABLE_MODELS,
    choose_model_file,
    find_model,
    find_pulled_model,
    int8_path,
    list_providers,
    list_shipped_models,
    read_model_info,
)
from mien.analysis.inference.model_file import pull_model as fetch
from mien.analysis.inference.precision import PRECISION_VARIABLE, find_int8_instructions, resolve_precision
from mien.cli.loaders import misplaced_json_error
from mien.cli.options import Json, Quiet
from mien.cli.scoring import describe_label_source
from mien.core.progress import echo

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Model files: shipped, pulled or your own.",
)


@app.callback()
def _default(context: typer.Context, as_json: Json = False) -> None:
    """`mien models` alone lists."""
    if context.invoked_subcommand is None:
        list_models(as_json)
    elif as_json:
        raise misplaced_json_error(context)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models that ship with mien and the files that can be pulled."""

    rows = []
    for name, path in list_shipped_models().items():
        info = read_model_info(path)
        accuracy = info.scores.get("accuracy")
        about = f"{len(info.labels)} expressions" + (
            f", accuracy {accuracy:.1%} on {info.scores.get('data')}{describe_label_source(info.scores.get('labels_by', 'given'))}"
            if accuracy
            else ""
        )
        about += "; float and int8" if int8_path(path).is_file() else "; float"
        rows.append({"name": name, "kind": "shipped", "about": about, "path": str(path)})
    for name, known in PULLABLE_MODELS.items():
        here = find_pulled_model(name)
        rows.append(
            {
                "name": name,
                "kind": "pulled" if here else "to pull",
                "about": known.description,
                "path": str(here) if here else f"mien models pull {name}",
            }
        )
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        echo(f"{row['name']:<8} {row['kind']:<8} {row['about']}\n{'':<18}{row['path']}")


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="NAME", help="A model's name or an .onnx file.")],
    as_json: Json = False,
) -> None:
    """Show what a model file says of itself, and its model card."""

    if model in PULLABLE_MODELS:
        known = PULLABLE_MODELS[model]
        facts = asdict(known) | {"local": str(find_pulled_model(model) or "")}
        echo(json.dumps(facts, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in facts.items()))
        return
    path = find_model(model)
    info = read_model_info(path)
    if as_json:
        run = choose_model_file(model)
        facts = asdict(info) | {"path": str(path), "runs": str(run), "precision": _precision(run)}
        echo(json.dumps(facts, indent=2))
        return
    card = path.with_suffix(".md")
    if card.is_file():
        echo(card.read_text(encoding="utf-8"))
    pre = info.preprocessing
    echo(
        f"file: {path}, {path.stat().st_size / 1e6:.1f} MB\nlabels: {', '.join(info.labels)}\n"
        f"input: {pre.channels} x {pre.size} x {pre.size}, mean {pre.mean}, std {pre.std}, framing {pre.framing}\n"
        f"network: {info.network['name']} {info.network['arguments']}\nlicense: {info.license}\n{_runs(model)}"
    )


def _precision(path: Path) -> str:

    return "int8" if read_model_info(path).quantized else "float"


def _runs(model: str) -> str:
    """Which file is run on this machine, why, and how to have the other."""

    path = choose_model_file(model)
    if model not in list_shipped_models():
        return f"runs: {path.name}, {_precision(path)}"
    if not int8_path(find_model(model)).is_file():
        why = "there is no int8 file"
    elif resolve_precision("auto") != "auto":
        why = f"{PRECISION_VARIABLE} says so"
    elif list_providers() != ["CPUExecutionProvider"]:
        why = f"{list_providers()[0].removesuffix('ExecutionProvider')} is given floats"
    else:
        why = f"this processor has {', '.join(find_int8_instructions()) or 'no instructions for int8'}"
    return f"runs: {path.name}, {_precision(path)}, as {why}; --precision float or int8 chooses"


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from 'mien models'.")],
    url: Annotated[str | None, typer.Option(help="Fetch it from here instead; its SHA-256 must be the same.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fetch a file that others publish.

    Its SHA-256 is checked, and it is kept in the cache folder (or the folder that MIEN_CACHE names).
    """

    path: Path = fetch(name, url)
    if as_json:
        echo(json.dumps({"name": name, "file": str(path), "bytes": path.stat().st_size}, indent=2))
    elif not quiet:
        echo(f"{name} is at {path}")
