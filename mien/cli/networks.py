"""`mien networks`: list and show the architectures that can be trained, and draw them."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import tomllib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mien.analysis.inference.model_file import list_shipped_models
from mien.cli.loaders import misplaced_json_error
from mien.cli.messages import emit, format_table
from mien.cli.options import Json
from mien.core.errors import ModelError, UsageError
from mien.training.scoring.classifiers import is_run, require_torch

if TYPE_CHECKING:
    from torch import nn

    from mien.models.summary import Summary

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    help="List and show the architectures that can be trained.",
)

#: What a network is shown for where nothing else is asked.
CLASSES, SIZE = 7, 48
#: What a drawing may be written as.
DRAWINGS = (".png", ".svg", ".pdf")


@app.callback()
def _list_without_verb(context: typer.Context, as_json: Json = False) -> None:
    """List the networks where no verb is named."""
    if context.invoked_subcommand is None:
        list_networks(as_json)
    elif as_json:
        raise misplaced_json_error(context)


@app.command("list")
def list_networks(as_json: Json = False) -> None:
    """List the networks that recipes can name.

    Parameters and multiply-adds are those for one face of 48 x 48 pixels and seven expressions.
    """
    require_torch()
    from mien.models import MODELS
    from mien.models.summary import summarize_network

    rows: list[dict[str, Any]] = []
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
                "about": _describe_network(name),
            }
        )
    table = [["name", "input", "parameters", "multiply-adds", "about"]]
    for row in rows:
        shape = "x".join(str(length) for length in row["input"])
        table.append([row["name"], shape, f"{row['parameters']:,}", f"{row['multiply_adds']:,}", row["about"]])
    emit(rows, format_table(table, left=(0, 4)), as_json=as_json)


@app.command("show")
def show_network(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A name from 'mien networks', a run folder, a .pt or an .onnx file."),
    ],
    set: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Change an argument of the network; repeat it for several."),
    ] = [],  # noqa: B006
    classes: Annotated[int | None, typer.Option(min=1, help="Number of expressions. Default: 7.")] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, help="1 for gray, 3 for RGB. Default: that of the network.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=8, max=512, help="Side of the pictures in pixels. Default: 48.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Draw the architecture into this .png, .svg or .pdf file.")] = None,
    as_json: Json = False,
) -> None:
    """Show the layers of a network: shapes, parameters, multiply-adds.

    Layers are listed in the order in which they run. Functions between them (additions, activations that are no modules) are in
    the drawing only. Multiply-adds are those of convolutions and linear layers for one picture. Running statistics are the
    means and variances of batch norms: Keras counts them as parameters, torch does not.
    """
    require_torch()

    if out is not None and out.suffix.lower() not in DRAWINGS:
        raise UsageError(f"--out {out}", "is no drawing", f"end it in {', '.join(DRAWINGS)}, as in --out network.png")
    options = {"--set": set, "--classes": classes, "--channels": channels, "--size": size}
    shown = _load_network(name, {option: value for option, value in options.items() if value not in (None, [])})
    if out is not None:
        _draw(shown, out)
    facts = {"name": name, "network": shown.network_name, "arguments": shown.arguments}
    text = _summary(shown) + (f"\n\nwrote {out}" if out is not None else "")
    emit(facts | shown.summary.to_json(), text, as_json=as_json)


@dataclass(frozen=True)
class _Shown:
    """A network to show; ``title`` is the name in the command."""

    title: str
    network_name: str
    arguments: dict[str, Any]
    network: nn.Module
    summary: Summary


def _load_network(name: str, options: dict[str, Any]) -> _Shown:
    """Return a network of MODELS with options, or the network of a trained model, which takes no options."""
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
        problem = f"cannot take pictures of {channels} x {size} x {size} pixels"
        raise ModelError(f"network '{name}'", problem, f"change --size{_size_hint(name)}") from error
    return _Shown(name, name, arguments, network, summary)


def _build(name: str, **options: Any) -> tuple[nn.Module, int, int, dict[str, Any]]:
    """Return (network, channels, size, all arguments) of a name in MODELS; its weights are on the meta device, without values."""
    import torch

    from mien.models import build_network

    known = _parameters(name)
    settings = {"num_classes": CLASSES, "channels": known["channels"].default, "size": SIZE}
    for option, key in {"--classes": "num_classes", "--channels": "channels", "--size": "size"}.items():
        settings[key] = options.get(option, settings[key])
    settings |= dict(_parse_setting(name, text) for text in options.get("--set", []))
    arguments = {key: settings.get(key, parameter.default) for key, parameter in known.items()}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of layers of no width, which then fail
        network = build_network(name, **arguments)
    return network, settings["channels"], settings["size"], arguments


def _parameters(name: str) -> dict[str, Any]:
    """Return the arguments that a network takes, with their defaults and types."""
    from mien.models import MODELS

    return dict(inspect.signature(MODELS[name], eval_str=True).parameters)


def _parse_setting(name: str, text: str) -> tuple[str, Any]:
    """Return one ``key=value`` of --set. The value is TOML, else text, and must have the right type."""
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
    """Return the class of a name, and the arguments that the name presets."""
    from mien.models import MODELS

    builder = MODELS[name]
    return (builder.func, builder.keywords) if isinstance(builder, partial) else (builder, {})


def _describe_network(name: str) -> str:
    """Return the first line of a network's docstring, and the arguments that this name presets."""
    network, preset = _class_of(name)
    words = (inspect.getdoc(network) or "").split("\n")[0]
    return words + "".join(f" [{key} {value}]" for key, value in preset.items())


def _size_hint(name: str) -> str:
    """Return the description of the argument ``size`` in the network's docstring, if it has one."""
    match = re.search(r"^\s+size: (.+?)\.?$", _class_of(name)[0].__doc__ or "", flags=re.MULTILINE)
    return f", the {match[1]}" if match else ""


def _summary(shown: _Shown) -> str:
    """Return the table of layers with its totals."""
    summary = shown.summary
    rows = [("layer", "kind", "output", "parameters", "multiply-adds")]
    for layer in summary.layers:
        shape = " x ".join(str(length) for length in layer.shape)
        kind = f"{layer.kind} {layer.detail}".strip()
        rows.append((layer.name, kind, shape, f"{layer.parameters:,}", f"{layer.multiply_adds:,}"))
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
    return "\n".join([head, "", format_table(rows, left=(0, 1, 2)), "", *ends])


def _draw(shown: _Shown, out: Path) -> None:
    """Draw the network, or each member of an ensemble."""
    from mien.models.drawing import draw_networks
    from mien.models.summary import summarize_network

    parts = list(_iterate_members(shown.network_name, shown.network, shown.arguments, shown.summary.picture[0], 1.0))
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


def _iterate_members(
    name: str, network: nn.Module, arguments: dict[str, Any], channels: int, weight: float
) -> Iterator[tuple[str, nn.Module, int, float]]:
    """Yield (name, network, channels, weight) of a network, or of all members of an ensemble and of ensembles in it."""
    if name != "ensemble":
        yield name, network, channels, weight
        return
    members = cast("Iterable[nn.Module]", network.networks)
    for part, member, share in zip(members, arguments["members"], arguments["weights"], strict=True):
        yield from _iterate_members(member["name"], part, member["arguments"], len(member["mean"]), weight * share)
