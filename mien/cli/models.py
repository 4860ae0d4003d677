"""`mien models`: list, show and pull model files."""

from __future__ import annotations

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
    pull_model,
    read_model_info,
)
from mien.analysis.inference.precision import PRECISION_VARIABLE, find_int8_instructions, resolve_precision
from mien.cli.completion import complete_models
from mien.cli.loaders import misplaced_json_error
from mien.cli.messages import emit
from mien.cli.options import Json, Quiet
from mien.cli.scoring import describe_label_source

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    help="List, show and pull model files.",
)


@app.callback()
def _list_without_verb(context: typer.Context, as_json: Json = False) -> None:
    """List the models where no verb is named."""
    if context.invoked_subcommand is None:
        list_models(as_json)
    elif as_json:
        raise misplaced_json_error(context)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models that ship with mien and the files that can be pulled."""
    rows = []
    for name, path in list_shipped_models().items():
        rows.append({"name": name, "kind": "shipped", "about": _describe_shipped(path), "path": str(path)})
    for name, known in PULLABLE_MODELS.items():
        local = find_pulled_model(name)
        kind, place = ("pulled", str(local)) if local else ("to pull", f"mien models pull {name}")
        rows.append({"name": name, "kind": kind, "about": known.description, "path": place})
    lines = [f"{row['name']:<8} {row['kind']:<8} {row['about']}\n{'':<18}{row['path']}" for row in rows]
    emit(rows, "\n".join(lines), as_json=as_json)


def _describe_shipped(path: Path) -> str:
    """Return the classes, the accuracy and the precisions of a shipped model in a line."""
    info = read_model_info(path)
    about = f"{len(info.labels)} expressions"
    if accuracy := info.scores.get("accuracy"):
        source = describe_label_source(info.scores.get("labels_by", "given"))
        about += f", accuracy {accuracy:.1%} on {info.scores.get('data')}{source}"
    return about + ("; float and int8" if int8_path(path).is_file() else "; float")


@app.command("show")
def show_model(
    model: Annotated[
        str,
        typer.Argument(metavar="NAME", autocompletion=complete_models, help="A model's name or an .onnx file."),
    ],
    as_json: Json = False,
) -> None:
    """Show the metadata of a model file, and its model card."""
    if model in PULLABLE_MODELS:
        facts = asdict(PULLABLE_MODELS[model]) | {"local": str(find_pulled_model(model) or "")}
        emit(facts, "\n".join(f"{key}: {value}" for key, value in facts.items()), as_json=as_json)
        return
    path = find_model(model)
    info, run = read_model_info(path), choose_model_file(model)
    facts = asdict(info) | {"path": str(path), "runs": str(run), "precision": _precision(run)}
    card, pre = path.with_suffix(".md"), info.preprocessing
    text = card.read_text(encoding="utf-8") + "\n" if card.is_file() else ""
    text += (
        f"file: {path}, {path.stat().st_size / 1e6:.1f} MB\nlabels: {', '.join(info.labels)}\n"
        f"input: {pre.channels} x {pre.size} x {pre.size}, mean {pre.mean}, std {pre.std}, framing {pre.framing}\n"
        f"network: {info.network['name']} {info.network['arguments']}\nlicense: {info.license}\n"
        f"{_describe_precision(model, run)}"
    )
    emit(facts, text, as_json=as_json)


def _precision(path: Path) -> str:
    return "int8" if read_model_info(path).quantized else "float"


def _describe_precision(model: str, path: Path) -> str:
    """Return which file is run on this machine, why, and how to choose the other."""
    if model not in list_shipped_models():
        return f"runs: {path.name}, {_precision(path)}"
    if not int8_path(find_model(model)).is_file():
        reason = "there is no int8 file"
    elif resolve_precision("auto") != "auto":
        reason = f"{PRECISION_VARIABLE} is set"
    elif list_providers() != ["CPUExecutionProvider"]:
        reason = f"{list_providers()[0].removesuffix('ExecutionProvider')} runs float models"
    else:
        reason = f"this processor has {', '.join(find_int8_instructions()) or 'no instructions for int8'}"
    return f"runs: {path.name}, {_precision(path)}, as {reason}; --precision float or int8 chooses"


@app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from 'mien models'.")],
    url: Annotated[str | None, typer.Option(help="Download from here instead; the SHA-256 must be the same.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Download a model file of another publisher.

    Its SHA-256 is checked. It is stored in the cache folder (or the folder in MIEN_CACHE).
    """
    path = pull_model(name, url)
    facts = {"name": name, "file": str(path), "bytes": path.stat().st_size}
    emit(facts, f"{name} is at {path}", as_json=as_json, quiet=quiet)
