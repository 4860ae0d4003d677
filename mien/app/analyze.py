"""`mien analyze`: files and folders → records and annotated media."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.app.messages import complain, explain
from mien.app.options import Json, Precision, Quiet, Tta
from mien.core.progress import say

if TYPE_CHECKING:
    from mien.run.pipeline import Done, Settings
    from mien.run.recognizer import Recognizer

#: Pictures whose faces are printed one by one; of more, only a line each.
TABLES_SHOWN = 10


def analyze(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Pictures, videos, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for what is written.")] = Path("mien-out"),
    model: Annotated[str, typer.Option(help="A model's name (see 'mien models') or an .onnx file.")] = "base",
    detector: Annotated[
        str,
        typer.Option(
            help="auto (yunet if it was pulled, else haar), haar, yunet, or none: the whole picture is a face."
        ),
    ] = "auto",
    detector_model: Annotated[Path | None, typer.Option(help="A YuNet file of your own.")] = None,
    format: Annotated[str, typer.Option(help="Formats of the records: a list of jsonl, csv, parquet.")] = "jsonl,csv",
    no_media: Annotated[
        bool, typer.Option("--no-media", help="Write records only, no annotated pictures or videos.")
    ] = False,
    people: Annotated[
        str, typer.Option(help="Which faces of a picture or frame: all, largest, or so many of the largest.")
    ] = "all",
    smoothing: Annotated[
        float,
        typer.Option(min=0, help="Video: time constant of smoothing along a person's track, in seconds; 0: off."),
    ] = 0.25,
    tta: Tta = "none",
    precision: Precision = "auto",
    unsure: Annotated[
        str,
        typer.Option(help="Mark labels with less confidence: auto (the model's own threshold), off, or as in 0.6."),
    ] = "auto",
    drop_non_faces: Annotated[
        str,
        typer.Option(help="Leave out what is probably no face: off (only mark it), auto, or a score as in 0.9."),
    ] = "off",
    colour: Annotated[str, typer.Option(help="Colour of boxes and labels: red,green,blue, each 0 to 255.")] = "0,255,0",
    line_width: Annotated[
        int, typer.Option(min=0, max=100, help="Width of the boxes' lines in pixels; 0 chooses.")
    ] = 0,
    text_size: Annotated[
        int, typer.Option(min=0, max=400, help="Height of the labels' text in pixels; 0 chooses.")
    ] = 0,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse pictures with more pixels than this. [default: 400,000,000]")
    ] = None,
    allow_truncated: Annotated[
        bool, typer.Option("--allow-truncated", help="Analyse what decodes of a picture file that is cut off.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Find faces in pictures and videos and read their expressions.

    For photo.jpg it writes photo.annotated.jpg and photo.records.jsonl (and .csv); for clip.mp4 clip.annotated.mp4 with
    the original sound, its records, clip.summary.json with a table of the people in it, clip.timeline.png and captions in
    clip.vtt. With several inputs all records also go into one table.

    Reads JPEG, PNG, WebP, BMP, GIF (first frame), TIFF, and the video formats of FFmpeg; folders with all below them.
    """
    from mien.core.files import make_folder
    from mien.core.pictures import MAX_PIXELS
    from mien.run.draw import Style
    from mien.run.pipeline import Settings
    from mien.run.recognizer import Recognizer
    from mien.run.sinks import check_formats

    settings = Settings(
        out,
        check_formats(format),
        not no_media,
        Style(_colour(colour), line_width, text_size),
        quiet or as_json,
        smoothing,
    )
    recognizer = Recognizer(
        model,
        detector=detector,
        detector_model=detector_model,
        tta=tta,
        precision=precision,
        unsure=unsure,
        drop_non_faces=drop_non_faces,
        people=_people(people),
        max_pixels=max_pixels or MAX_PIXELS,
        allow_truncated=allow_truncated,
    )
    make_folder(out)
    finished, failures = _analyze_all(inputs, recognizer, settings, show=not (quiet or as_json))
    if as_json:
        document = {
            "model": recognizer.model_name,
            "precision": recognizer.classifier.precision,
            "detector": recognizer.detector_name,
            "inputs": [_as_json(done, recognizer) for done in finished],
            "failures": failures,
        }
        say(json.dumps(document, indent=2))
    if failures and finished:
        complain(f"{len(failures)} of {len(failures) + len(finished)} inputs failed; the rest is done")
    if not finished:
        return 2
    return 1 if failures or any(done.warnings for done in finished) else 0


class _NothingDone(Exception):
    """No input could be analysed: the table over all of them is not kept."""


def _analyze_all(
    inputs: list[str], recognizer: Recognizer, settings: Settings, show: bool
) -> tuple[list[Done], list[str]]:
    """(what was done, what failed and why); both are told as they happen."""
    from contextlib import ExitStack, suppress

    from mien.core.errors import MediaError
    from mien.core.progress import progress_bar
    from mien.run.pipeline import analyze_input
    from mien.run.sinks import record_path, record_writer
    from mien.run.sources import list_inputs

    items = list_inputs(inputs, settings.out)
    finished: list[Done] = []
    failures: list[str] = []
    with suppress(_NothingDone), ExitStack() as stack:
        table = None
        if len(items) > 1:
            table = stack.enter_context(record_writer(settings.out / "all", settings.formats, recognizer.labels))
        bar = stack.enter_context(progress_bar("files", len(items), quiet=settings.quiet or len(items) == 1))
        for item in items:
            try:
                if isinstance(item, MediaError):
                    raise item
                done = analyze_input(item, recognizer, settings, table)
            except Exception as error:  # noqa: BLE001 - one bad file must not cost the others their results
                failures.append(explain(error, "" if isinstance(item, MediaError) else f"{item.name}: "))
                complain(failures[-1])
            else:
                finished.append(done)
                for warning in done.warnings:
                    complain(f"{done.source}: {warning}")
                if show:
                    _print(done, recognizer, in_full=len(finished) <= TABLES_SHOWN)
            bar.advance(1, f"{len(finished):,} done, {len(failures):,} failed")
        if not finished:
            raise _NothingDone
    if table is not None and finished and show:
        paths = ", ".join(str(record_path(settings.out / "all", name)) for name in settings.formats)
        say(f"all records in one table: {paths}")
    return finished, failures


def _colour(text: str) -> tuple[int, int, int]:
    from mien.core.errors import UsageError

    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and int(part) <= 255 for part in parts):
        raise UsageError(f"--colour {text}", "is not red,green,blue with values in 0..255", "as in --colour 0,255,0")
    red, green, blue = (int(part) for part in parts)
    return red, green, blue


def _people(text: str) -> int:
    """``--people`` → how many faces are kept; 0: all."""
    from mien.core.errors import UsageError

    named = {"all": 0, "largest": 1}
    if text in named:
        return named[text]
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--people {text}", "is neither all, largest nor a number from 1", "as in --people 2")
    return int(text)


def _print(done: Done, recognizer: Recognizer, in_full: bool) -> None:
    """A table of a picture's faces with every probability, or a line for a video; then what was written."""
    if done.faces and in_full:
        say(f"{done.source}: {_plural(len(done.faces), 'face')}")
        _print_table(done, recognizer)
    elif done.is_video:
        shares = ", ".join(f"{name} {count / done.faces_seen:.0%}" for name, count in done.labels.most_common())
        say(
            f"{done.source}: {_plural(done.frames, 'frame')}, {_plural(done.faces_seen, 'face')}{': ' + shares if shares else ''}"
        )
        _print_people(done)
    elif done.faces:
        say(f"{done.source}: " + ", ".join(f"{face.label} {face.confidence:.0%}" for face in done.faces))
    else:
        hint = "" if recognizer.detector is None else " (if the picture is itself a face: --detector none)"
        say(f"{done.source}: no face found{hint}")
    if in_full:
        say("  wrote " + ", ".join(map(str, done.outputs)))


def _print_table(done: Done, recognizer: Recognizer) -> None:
    """Plain columns: they fit any terminal, and can be cut and sorted by other programs."""
    head = ["face", "expression", *recognizer.labels, "x1", "y1", "x2", "y2"]
    rows = [
        [
            str(number),
            f"{face.label}{'?' if face.unsure else ''}",
            *(f"{p:.3f}" for p in face.probabilities),
            *(f"{v:.0f}" for v in face.box_xyxy),
        ]
        for number, face in enumerate(done.faces)
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        say(
            "  "
            + "  ".join(
                cell.ljust(width) if column == 1 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )


#: People of a video that are listed on the console; the summary has all.
MOST_LISTED = 8


def _print_people(done: Done) -> None:
    """A line for each person, who was seen longest first."""
    for person in done.people[:MOST_LISTED]:
        share = {name: value for name, value in person["share"].items() if value >= 0.005}
        shares = ", ".join(f"{name} {value:.0%}" for name, value in sorted(share.items(), key=lambda item: -item[1]))
        say(
            f"  person {person['person']}: {person['on_screen_s']:.1f} s on screen from {person['first_s']:.1f} s, "
            f"{_plural(person['changes'], 'change')}: {shares}"
        )
    if len(done.people) > MOST_LISTED:
        say(f"  and {len(done.people) - MOST_LISTED:,} more")


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _as_json(done: Done, recognizer: Recognizer) -> dict[str, Any]:
    from mien.core.types import FrameResult
    from mien.run.sinks import records_of

    values: dict[str, Any] = {
        "source": done.source,
        "frames": done.frames,
        "faces": done.faces_seen,
        "outputs": [str(path) for path in done.outputs],
        "warnings": done.warnings,
        **({"people": done.people} if done.is_video else {}),
    }
    if not done.is_video:
        result = FrameResult(done.source, 0, 0.0, (0, 0), done.faces)
        values["records"] = records_of(result, recognizer.model_name, recognizer.detector_name)
    return values
