"""`mien methods`: a paragraph for the methods section of a paper."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Annotated

import typer

from mien.analysis.inference.model_file import ModelInfo, find_model, read_model_info
from mien.analysis.output.methods import describe_methods
from mien.analysis.people.records import Records, read_records
from mien.analysis.people.summary import read_summary
from mien.cli.messages import emit, print_note
from mien.cli.options import Json
from mien.core.errors import DataError, ModelError, UsageError

#: Width of a line of text.
WIDTH = 100


def methods(
    records: Annotated[Path, typer.Argument(metavar="RECORDS", help="Records (.jsonl, .csv or .parquet).")],
    model: Annotated[
        str | None, typer.Option(help="The model that made the records, if it is not one of 'mien models'.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Describe how records were made, for the methods section of a paper.

    Says which model, detector, thresholds, smoothing and frames the records come from, with references. All of it is read from
    the records, the summary beside them and the model's file; what these do not say is listed as missing.
    """
    clips = read_records(records)
    if not clips:
        raise DataError(records, "holds no record: no face was seen", "name records that have faces")
    if len(clips) > 1:
        raise DataError(records, f"holds records of {len(clips):,} inputs", "name the records of one of them")
    described = describe_methods(clips[0], read_summary(records), _find_info(clips[0], model))
    references = [fill(f"[{index}] {text}", WIDTH) for index, text in enumerate(described.references, 1)]
    emit(described.to_json(), "\n".join([fill(described.text, WIDTH), "", *references]), as_json=as_json)
    if described.missing:
        print_note(f"note: not recorded: {'; '.join(described.missing)}", quiet=as_json)


def _find_info(records: Records, model: str | None) -> ModelInfo | None:
    """Return the metadata of the model that made the records; None where it is not found. UsageError for another model."""
    try:
        info = read_model_info(find_model(model or records.model))
    except ModelError:
        if model is not None:
            raise
        return None
    if (info.name, info.labels) != (records.model, records.labels):
        if model is not None:
            raise UsageError(f"--model {model}", f"is not the model {records.model} of the records", "name that one")
        return None
    return info
