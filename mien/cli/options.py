"""Options that several verbs share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mien.cli.completion import complete_models, complete_recipes
from mien.core.errors import UsageError


def _check_label_source(value: str) -> str:
    """Return the value, or raise UsageError before anything is read."""
    if value not in ("auto", "given", "annotators"):
        raise UsageError(f"--labels-by {value}", "is unknown", "choose given or annotators")
    return value


def parse_time(option: str, text: str) -> float:
    """Return the seconds of a time like ``83``, ``1:23`` or ``0:01:23.5``."""
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)", text.strip())
    if match is None or (match[2] and float(match[3]) >= 60) or (match[1] and int(match[2]) >= 60):
        raise UsageError(f"{option} {text}", "is no time", "give seconds, or as in 1:23 or 1:02:03.5")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write to.")]

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        autocompletion=complete_models,
        help="A model's name, an .onnx file, a run folder or a .pt file.",
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model", autocompletion=complete_models, help="A model's name (see 'mien models') or an .onnx file."
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        help="File of a shipped model to run: int8, float, or auto: int8 where it is faster on this processor.",
    ),
]
Tta = Annotated[str, typer.Option("--tta", help="Average over changed copies of each face: none, flip or ten-crop.")]
Detector = Annotated[
    str,
    typer.Option(
        "--detector",
        help="auto (yunet if it was pulled, else haar), haar, yunet, or none: the whole picture is a face.",
    ),
]
DetectorModel = Annotated[
    Path | None,
    typer.Option("--detector-model", help="Your own detector: a file of YuNet or of 'mien train-detector'."),
]

Data = Annotated[
    list[Path],
    typer.Option("--data", help="A CSV or Parquet file, or a folder of pictures; repeat it for several."),
]
Split = Annotated[str, typer.Option("--split", help="Use this split of the data only. Default: all faces.")]
Exclude = Annotated[Path | None, typer.Option("--exclude", help="CSV with a column 'path': rows to leave out.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out broken rows and pictures, and count them.")]
LabelsBy = Annotated[
    str,
    typer.Option(
        "--labels-by",
        callback=_check_label_source,
        help="Labels to use: given (the file's own), annotators (the majority of FER+'s annotators), "
        "or auto: those that the model learned.",
    ),
]
DataLabelsBy = Annotated[
    str,
    typer.Option(
        "--labels-by",
        callback=_check_label_source,
        help="Labels to use: given (the file's own), or annotators (the majority of FER+'s annotators).",
    ),
]
Ferplus = Annotated[Path | None, typer.Option("--ferplus", help="FER+'s CSV of votes, joined row by row.")]

Recipe = Annotated[
    str, typer.Argument(metavar="RECIPE", autocompletion=complete_recipes, help="A recipe's name or a .toml file.")
]
Set = Annotated[
    list[str],
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a setting of the recipe; repeat it for several."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of the random generator.")]
License = Annotated[str, typer.Option("--license", help="License of the weights, written into file and card.")]
