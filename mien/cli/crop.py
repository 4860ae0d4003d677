"""`mien data crop`: crop the faces of photographs into a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.analysis.detection.crop_dataset import CropSummary, crop_pictures
from mien.analysis.detection.detectors import make_detector
from mien.analysis.settings import parse_people
from mien.cli.messages import emit, pluralize, print_error, print_note
from mien.cli.options import DetectorModel, Json, Quiet
from mien.core.errors import UsageError
from mien.core.progress import progress_bar

#: Pictures without a face that are printed; --json lists all.
MAX_LISTED = 20


def crop(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Pictures or folders of them.")],
    out: Annotated[Path, typer.Option(help="The folder to write; it must be empty or new.")],
    size: Annotated[int, typer.Option(min=8, max=1024, help="Side of the crops in pixels.")] = 48,
    people: Annotated[
        str, typer.Option(help="Faces of each picture: largest, all, or N for the N largest.")
    ] = "largest",
    detector: Annotated[str, typer.Option(help="auto (yunet if it was pulled, else haar), haar or yunet.")] = "auto",
    detector_model: DetectorModel = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Crop the faces of photographs into a data set.

    Data sets are pictures of one face each; this makes them. Faces are framed as in 'mien analyze', so that a network trains on
    what it will get. The folders stay: photos/train/angry/a.jpg becomes OUT/train/angry/a.png; further faces of it become
    a-face2.png and so on. OUT/crops.csv lists the picture and the box of each crop.
    """
    finder = make_detector(detector, detector_model)
    if finder.is_whole_picture:
        raise UsageError("--detector none", "finds no faces to crop", "use auto, haar or yunet")
    count = parse_people(people)
    with progress_bar("pictures", None, quiet=quiet or as_json) as bar:
        done = crop_pictures(
            paths, out, finder, size=size, people=count, on_progress=lambda at, of: bar.advance(1, f"{at:,} of {of:,}")
        )
    for failure in done.failures:
        print_error(str(failure))
    if done.videos:
        note = f"note: {pluralize(done.videos, 'video')} left out; 'mien moments --plain' writes stills"
        print_note(note, quiet=quiet)
    facts = {
        "pictures": done.pictures, "faces": done.faces, "without": done.without_faces, "videos": done.videos,
        "failures": [str(failure) for failure in done.failures],
    }  # fmt: skip
    emit(facts, _summary(done, out), as_json=as_json, quiet=quiet)
    if not done.faces:
        return 2
    return 1 if done.failures else 0


def _summary(done: CropSummary, out: Path) -> str:
    """Return what was written, and the pictures without a face."""
    lines = []
    if done.faces:
        pictures = pluralize(done.pictures - len(done.without_faces), "picture")
        lines.append(f"wrote {pluralize(done.faces, 'face')} of {pictures} to {out}")
    if done.without_faces:
        nothing = "" if done.faces else "nothing was written: "
        lines.append(
            f"{nothing}no face was found in {len(done.without_faces):,} of {pluralize(done.pictures, 'picture')}:"
        )
        lines += [f"  {name}" for name in done.without_faces[:MAX_LISTED]]
    if len(done.without_faces) > MAX_LISTED:
        lines.append(f"  and {len(done.without_faces) - MAX_LISTED:,} more")
    return "\n".join(lines)
