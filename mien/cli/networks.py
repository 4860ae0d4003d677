"""`mien networks`: the architectures that can be trained, their layers, and drawings of them."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.analysis.inference.model_file import list_shipped_models
from mien.cli.loaders import is_run, misplaced_json_error, require_torch
from mien.cli.options import Json
from mien.core.errors import ModelError, UsageError
from mien.core.progress import echo

if TYPE_CHECKING:
    from torch import nn

    from mien.models.summary import Summary

app = typer.Typer(
    add_completion=False, invoke_without_command=True, rich_markup_mode=None, help="Architectures that can be trained."
)

#: What a network is shown for where nothing else is asked.
CLASSES, SIZE = 7, 48
#: What a drawing may be written as.
DRAWINGS = (".png", ".svg", ".pdf")


@app.callback()
def _default(context: typer.Context, as_json: Json = False) -> None:
    """`mien networks` alone lists."""
    if context.invoked_subcommand is None:
        list_networks(as_json)
    elif as_json:
        raise misplaced_json_error(context)


@app.command("list")
def list_networks(as_json: Json = False) -> None:
    """List the networks that recipes can name.

    With the parameters and the multiply-adds that each has for one face of 48x48 pixels and seven expressions.
    """
    require_torch()
    from mien.models import MODELS
    from mien.models.summary import summarize_network

    rows = []
    for name in MODELS:
        network, channels, _, arguments = _build(name)
        summary = summarize_network(network, channels, SIZE)
        rows.append(
            {
                "name": name,
                "input": list(summary.picture),
                "parameters": summary.parameters,
                "statistics": summary.statistics,
                "multiply_adds": summary.multiply_adds,
                "arguments": arguments,
                "about": _about(name),
            }
        )
    if as_json:
        echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    echo(f"{'name':<12} {'input':>7} {'parameters':>11} {'multiply-adds':>13}  about")
    for row in rows:
        shape = "x".join(str(length) for length in row["input"])
        echo(f"{row['name']:<12} {shape:>7} {row['parameters']:>11,} {row['multiply_adds']:>13,}  {row['about']}")


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A name from 'mien networks', a run folder, a .pt or an .onnx file."),
    ],
    set: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change an argument of the network; may be given several times."
        ),
    ] = [],  # noqa: B006
    classes: Annotated[int | None, typer.Option(min=1, help="How many expressions; default: 7.")] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, help="1 for gray, 3 for RGB; default: what the network was written for.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=8, max=512, help="Side of the pictures; default: 48.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Draw the architecture into this .png, .svg or .pdf file too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the layers of a network: shapes, parameters, multiply-adds.

    The layers stand in the order in which they run; functions between them (additions, activations that are no modules)
    are in the drawing only. Multiply-adds are those of convolutions and linear layers for one picture. Running
    statistics are the means and variances of batch norms: Keras counts them as parameters, torch does not.
    """
    require_torch()

    if out is not None and out.suffix.lower() not in DRAWINGS:
        raise UsageError(f"--out {out}", "is no drawing", f"end it in {', '.join(DRAWINGS)}, as in --out network.png")
    given = {"--set": set, "--classes": classes, "--channels": channels, "--size": size}
    shown = _open(name, {option: value for option, value in given.items() if value not in (None, [])})
    if out is not None:
        _draw(shown, out)
    if as_json:
        facts = {"name": name, "network": shown.network_name, "arguments": shown.arguments}
        echo(json.dumps(facts | shown.summary.to_json(), indent=2))
        return
    echo(_table(shown))
    if out is not None:
        echo(f"\nwrote {out}")


@dataclass(frozen=True)
class _Shown:
    """A network to show; ``title`` is what it was asked by."""

    title: str
    network_name: str
    arguments: dict[str, Any]
    network: nn.Module
    summary: Summary


def _open(name: str, options: dict[str, Any]) -> _Shown:
    """A network of MODELS with options, or the network of a trained model, which leaves nothing to choose."""
    from mien.models import BUILD_ERRORS, MODELS
    from mien.models.summary import summarize_network

    if name not in MODELS and (is_run(name) or name in list_shipped_models() or Path(name).suffix.lower() == ".onnx"):
        from mien.training.torch_classifier import open_trained_model

        if options:
            raise UsageError(
                next(iter(options)), f"cannot change the trained network of {name}", "leave it out, or name a network"
            )
        trained = open_trained_model(name)
        summary = summarize_network(trained.network, trained.preprocessing.channels, trained.preprocessing.size)
        return _Shown(name, trained.network_name, trained.network_arguments, trained.network, summary)
    if name not in MODELS:
        raise ModelError(
            f"network '{name}'", "is unknown", f"choose one of {', '.join(MODELS)}, or name a run or a model file"
        )
    try:
        network, channels, size, arguments = _build(name, **options)
    except BUILD_ERRORS as error:
        raise ModelError(f"network '{name}'", f"cannot be built like this ({error})", "change --set") from error
    try:
        summary = summarize_network(network, channels, size)
    except BUILD_ERRORS as error:
        found = f"cannot take pictures of {channels} x {size} x {size} pixels"
        raise ModelError(f"network '{name}'", found, f"change --size{_wanted_size(name)}") from error
    return _Shown(name, name, arguments, network, summary)


def _build(name: str, **options: Any) -> tuple[nn.Module, int, int, dict[str, Any]]:
    """(network, channels, size, all its arguments) of a name in MODELS; its weights take no memory and hold no values."""

    import torch

    from mien.models import build_network

    known = _parameters(name)
    wanted = {"num_classes": CLASSES, "channels": known["channels"].default, "size": SIZE}
    for option, key in {"--classes": "num_classes", "--channels": "channels", "--size": "size"}.items():
        wanted[key] = options.get(option, wanted[key])
    wanted |= dict(_setting(name, text) for text in options.get("--set", []))
    arguments = {key: wanted.get(key, parameter.default) for key, parameter in known.items()}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of layers of no width, which then fail
        network = build_network(name, **arguments)
    return network, wanted["channels"], wanted["size"], arguments


def _parameters(name: str) -> dict[str, Any]:
    """The arguments that a network takes, with their defaults and types."""

    from mien.models import MODELS

    return dict(inspect.signature(MODELS[name], eval_str=True).parameters)


def _setting(name: str, text: str) -> tuple[str, Any]:
    """One ``key=value`` of --set; the value is read as TOML, as text where it is none, and must be of the right type."""

    from pydantic import TypeAdapter, ValidationError

    key, equals, value = (part.strip() for part in text.partition("="))
    known = _parameters(name)
    if not equals or not key:
        raise UsageError(f"--set {text}", "is not of the form key=value", "as in --set dropout=0.5")
    if key not in known:
        raise UsageError(f"--set {text}", f"network '{name}' has no argument '{key}'", f"it has {', '.join(known)}")
    with contextlib.suppress(ValueError, RecursionError):  # text without quotes stays as it is
        value = tomllib.loads(f"value = {value}")["value"]
    try:
        return key, TypeAdapter(known[key].annotation).validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].lower()
        hint = "change it" if key == "num_classes" else f"its default is {json.dumps(known[key].default)}"
        raise UsageError(f"--set {text}", problem, hint) from error


def _class_of(name: str) -> tuple[Any, dict[str, Any]]:
    """The class behind a name, and what the name presets of its arguments."""

    from mien.models import MODELS

    builder = MODELS[name]
    return (builder.func, builder.keywords) if isinstance(builder, partial) else (builder, {})


def _about(name: str) -> str:
    """The first line of a network's docstring, and what tells this name from others of the same class."""

    network, preset = _class_of(name)
    words = (inspect.getdoc(network) or "").split("\n")[0]
    return words + "".join(f" [{key} {value}]" for key, value in preset.items())


def _wanted_size(name: str) -> str:
    """What the network's docstring says of its argument ``size``, if it has one."""

    said = re.search(r"^\s+size: (.+?)\.?$", _class_of(name)[0].__doc__ or "", flags=re.MULTILINE)
    return f", the {said[1]}" if said else ""


def _table(shown: _Shown) -> str:
    """The layer table with its totals."""
    summary = shown.summary
    rows = [("layer", "kind", "output", "parameters", "multiply-adds")]
    for layer in summary.layers:
        shape = " x ".join(str(length) for length in layer.shape)
        kind = f"{layer.kind} {layer.detail}".strip()
        rows.append((layer.name, kind, shape, f"{layer.parameters:,}", f"{layer.multiply_adds:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = []
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False)]
        right = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join(left + right))
    totals = {
        "trainable parameters": f"{summary.parameters:,}",
        "running statistics": f"{summary.statistics:,}",
        "both, as Keras counts": f"{summary.parameters + summary.statistics:,}",
        "multiply-adds": f"{summary.multiply_adds:,}",
        "as float32": f"{summary.megabytes:,.1f} MB",
    }
    head = f"{shown.network_name}, input {' x '.join(str(length) for length in summary.picture)}\n"
    # The members of an ensemble fill pages; --json has them.
    plain = {key: value for key, value in shown.arguments.items() if key != "members"}
    head += "arguments: " + ", ".join(f"{key}={json.dumps(value)}" for key, value in plain.items())
    ends = [f"{words:<22} {value:>15}" for words, value in totals.items()]
    return "\n".join([head, "", *lines, "", *ends])


def _draw(shown: _Shown, out: Path) -> None:
    """The network, or each member of an ensemble, as a drawing."""
    from mien.models.drawing import draw_networks
    from mien.models.summary import summarize_network

    parts = list(_parts(shown.network_name, shown.network, shown.arguments, shown.summary.picture[0], 1.0))
    if len(parts) == 1:
        draw_networks([(shown.title, shown.summary)], out)
        return
    size = shown.summary.picture[-1]
    draw_networks(
        [
            (f"{shown.title}: {name}, weight {weight:.2g}", summarize_network(network, channels, size))
            for name, network, channels, weight in parts
        ],
        out,
    )


def _parts(
    name: str, network: nn.Module, arguments: dict[str, Any], channels: int, weight: float
) -> Iterator[tuple[str, nn.Module, int, float]]:
    """(name, network, channels, weight) of a network alone, or of all members of an ensemble and of ensembles in it."""
    if name != "ensemble":
        yield name, network, channels, weight
        return
    for part, member, share in zip(network.networks, arguments["members"], arguments["weights"], strict=True):
        yield from _parts(member["name"], part, member["arguments"], len(member["mean"]), weight * share)
