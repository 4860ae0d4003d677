"""`mien data crop`: photographs → a data set of the faces in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mien.analysis.detection.crop_dataset import crop_pictures
from mien.analysis.detection.detectors import make_detector
from mien.analysis.settings import parse_people
from mien.cli.messages import pluralize, print_error
from mien.cli.options import Json, Quiet
from mien.core.errors import UsageError
from mien.core.progress import echo, progress_bar

#: Pictures without a face that are named on the console; --json names all.
MOST_NAMED = 20


def crop(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Pictures, or folders of them.")],
    out: Annotated[Path, typer.Option(help="The folder to write; it has to be empty or new.")],
    size: Annotated[int, typer.Option(min=8, max=1024, help="Side of the crops in pixels.")] = 48,
    people: Annotated[
        str, typer.Option(help="Which faces of a picture: largest, all, or so many of the largest.")
    ] = "largest",
    detector: Annotated[str, typer.Option(help="auto (yunet if it was pulled, else haar), haar or yunet.")] = "auto",
    detector_model: Annotated[Path | None, typer.Option(help="A YuNet file of your own.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Cut the faces out of photographs, to train on or to be scored by.

    Data sets are pictures of one face each; this makes them. The faces are framed as 'mien analyze' frames what it reads, so
    that a network learns faces as it will be given them. The folders stay: photos/train/angry/a.jpg becomes
    OUT/train/angry/a.png, and of several faces the others a-face2.png. OUT/crops.csv says where each was cut out.
    """

    finder = make_detector(detector, detector_model)
    if finder.is_whole_picture:
        raise UsageError("--detector none", "finds no faces to cut out", "use auto, haar or yunet")
    kept = parse_people(people)
    with progress_bar("pictures", None, quiet=quiet or as_json) as bar:
        done = crop_pictures(
            paths, out, finder, size=size, people=kept, on_progress=lambda at, of: bar.advance(1, f"{at:,} of {of:,}")
        )
    for failure in done.failures:
        print_error(str(failure))
    if done.videos and not quiet:
        count = f"{done.videos:,} video{'' if done.videos == 1 else 's'}"
        echo(f"note: {count} left out; 'mien moments --plain' takes stills", error=True)
    if as_json:
        said = {
            "pictures": done.pictures, "faces": done.faces, "without": done.without_faces, "videos": done.videos,
            "failures": [str(failure) for failure in done.failures],
        }  # fmt: skip
        echo(json.dumps(said, indent=2))
    elif done.pictures and not quiet:
        of = done.pictures - len(done.without_faces)
        if done.faces:
            echo(f"wrote {pluralize(done.faces, 'face')} of {pluralize(of, 'picture')} to {out}")
        if done.without_faces:
            nothing = "" if done.faces else "nothing was written: "
            echo(f"{nothing}no face was found in {len(done.without_faces):,} of {pluralize(done.pictures, 'picture')}:")
            for name in done.without_faces[:MOST_NAMED]:
                echo(f"  {name}")
            if len(done.without_faces) > MOST_NAMED:
                echo(f"  and {len(done.without_faces) - MOST_NAMED:,} more")
    if not done.faces:
        return 2
    return 1 if done.failures else 0
