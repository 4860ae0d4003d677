"""`mien reproduce`: the reference systems and the questions they left open, on their own splits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.cli.loaders import read_data
from mien.cli.messages import emit
from mien.cli.options import Data, Json, Quiet
from mien.core.errors import UsageError
from mien.core.locks import hold_lock
from mien.core.progress import echo
from mien.reproduction.page import read_results, write_page
from mien.reproduction.studies import find_studies
from mien.training.scoring.classifiers import require_torch


def reproduce(
    name: Annotated[
        str, typer.Argument(metavar="NAME|all", help="A system or a question, or all; an unknown name lists them.")
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the runs, their results and the page.")] = Path("runs/reproduce"),
    short: Annotated[
        bool, typer.Option("--short", help="Run the shortened schedules, for machines without a GPU.")
    ] = False,
    known_results: Annotated[
        Path | None, typer.Option(help="Folder of NAME.json files: runs of the same recipe in them are not repeated.")
    ] = None,
    run: Annotated[str, typer.Option(help="Train only this run of the study, as in author or ours.")] = "",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a reference system by its author's recipe and by ours.

    The data is FER2013's Training and PublicTest. Each system's split is drawn from them with a fixed seed; the scored faces
    neither trained nor selected a model. Finished runs are skipped, interrupted runs continue. The folder gets the runs, a
    NAME.json with their logs and scores, and reproduction.md with all tables and curves.
    """
    require_torch()
    from mien.reproduction.runner import reproduce_study as run_study

    quiet, results = quiet or as_json, {}
    studies = find_studies(name)
    if known_results is not None and not known_results.is_dir():
        raise UsageError(
            f"--known-results {known_results}", "is no folder", "name the one that holds the NAME.json files"
        )
    faces = read_data(data, quiet=quiet)
    for study in studies:
        results[study.name] = run_study(
            study, faces, out, short=short, known=known_results, only=run, quiet=quiet,
            echo=(lambda text: None) if quiet else echo,
        )  # fmt: skip
        with hold_lock(out / ".page.lock", out, "wait until it has ended", wait_s=600):
            write_page(read_results(out), out / "reproduction.md", out / "pictures")
    emit(results, f"wrote {out / 'reproduction.md'}", as_json=as_json, quiet=quiet)
