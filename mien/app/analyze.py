"""`mien analyze`: files and folders → records and annotated media."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.app.messages import complain, explain
from mien.app.options import Json, Precision, Quiet, Tta
from mien.core.progress import say

if TYPE_CHECKING:
    from mien.core.errors import MediaError
    from mien.run.manifest import Manifest
    from mien.run.recognizer import Recognizer
    from mien.run.results import Done, Settings
    from mien.run.sources import Input
    from mien.run.video_in import Sampling

#: Pictures whose faces are printed one by one; of more, only a line each.
TABLES_SHOWN = 10


def analyze(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Pictures, videos, folders of them, camera:0, or addresses of streams."),
    ],
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
    fps: Annotated[
        float | None, typer.Option(min=0.001, help="Video: analyse so many frames a second. [default: all]")
    ] = None,
    every: Annotated[
        float | None, typer.Option(min=0.001, help="Video: analyse one frame every so many seconds.")
    ] = None,
    begin: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Video: begin here, in seconds or as 1:02:03.5.")
    ] = "0",
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Video: end here. [default: its end]")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Leave out inputs that an earlier run into the same folder finished. What a run that was cut short "
            "had done is kept without this, too.",
        ),
    ] = False,
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
    bars: Annotated[
        bool, typer.Option("--bars", help="Draw small bars of all probabilities beside each face.")
    ] = False,
    display_width: Annotated[
        int, typer.Option(min=0, max=16_384, help="Width of annotated media in pixels; 0 leaves it as it is.")
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
    clip.vtt. With several inputs all records also go into one table, and manifest.jsonl says what became of each.

    A run that came to a sudden end goes on when it is started again with the same options. Cameras and streams go on until
    Ctrl-C; then their outputs are finished.

    Reads JPEG, PNG, WebP, BMP, GIF (first frame), TIFF, and the video formats of FFmpeg; folders with all below them.
    """
    from mien.core.files import make_folder
    from mien.core.pictures import MAX_PIXELS
    from mien.run.draw import Style
    from mien.run.pipeline import Settings
    from mien.run.recognizer import Recognizer
    from mien.run.sinks import check_formats

    stopping = _Stopping()
    settings = Settings(
        out,
        check_formats(format),
        not no_media,
        Style(_colour(colour), line_width, text_size, bars, display_width),
        quiet or as_json,
        smoothing,
        _sampling(fps, every, begin, end),
        stop=stopping.is_wanted,
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
    with stopping.for_streams(inputs):
        analysis = _Analysis(recognizer, settings, resume, show=not (quiet or as_json))
        analysis.run(inputs)
    finished, failures = analysis.finished, analysis.failures
    if as_json:
        document = {
            "model": recognizer.model_name,
            "precision": recognizer.classifier.precision,
            "detector": recognizer.detector_name,
            "inputs": finished,
            "failures": failures,
        }
        say(json.dumps(document, indent=2))
    if failures and finished:
        complain(f"{len(failures)} of {len(failures) + len(finished)} inputs failed; the rest is done")
    if not finished:
        return 2
    return 1 if failures or any(done["warnings"] for done in finished) else 0


class _Stopping:
    """Ctrl-C ends a camera or a stream in good order: what was seen until then is finished."""

    def __init__(self) -> None:
        self._wanted = False

    def is_wanted(self) -> bool:
        return self._wanted

    @contextmanager
    def for_streams(self, inputs: list[str]) -> Iterator[None]:
        from mien.run.sources import is_stream

        if not all(is_stream(name) for name in inputs):
            yield
            return

        def stop(*_: object) -> None:
            self._wanted = True
            signal.signal(signal.SIGINT, before)  # a second Ctrl-C ends it at once

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class _Analysis:
    """All inputs, one after the other; what was done, and what failed and why, is told as it happens.

    finished   for each input what --json says of it
    failures   a message for each
    """

    def __init__(self, recognizer: Recognizer, settings: Settings, resume: bool, show: bool) -> None:
        self.recognizer, self.settings, self.resume, self.show = recognizer, settings, resume, show
        self.finished: list[dict[str, Any]] = []
        self.failures: list[str] = []

    def run(self, inputs: list[str]) -> None:
        from mien.core.progress import progress_bar
        from mien.run.manifest import Manifest
        from mien.run.sources import list_inputs

        items = list_inputs(inputs, self.settings.out)
        several = len(items) > 1
        with ExitStack() as stack:
            manifest = None
            if several or self.resume:
                manifest = Manifest(self.settings.out, self._key(), self.resume)
                stack.callback(manifest.close)
            bar = stack.enter_context(progress_bar("files", len(items), quiet=self.settings.quiet or not several))
            for item in items:
                self._one(item, manifest)
                bar.advance(1, f"{len(self.finished):,} done, {len(self.failures):,} failed")
            if several and self.finished:
                self._joint_table()
            if manifest is not None:
                manifest.end() if self.finished else manifest.remove()

    def _key(self) -> dict[str, Any]:
        """What the results depend on beside the inputs."""
        settings = self.settings
        choices = {
            name: repr(getattr(settings, name)) for name in ("formats", "media", "style", "smoothing_s", "sampling")
        }
        return {**self.recognizer.describe(), **choices}

    def _one(self, item: Input | MediaError, manifest: Manifest | None) -> None:
        from mien.core.errors import MediaError
        from mien.run.pipeline import analyze_input

        if isinstance(item, MediaError):
            self._failed(explain(item))
            return
        before = manifest.finished(item) if manifest is not None else None
        if before is not None:
            self.finished.append(before["done"])
            if self.show:
                say(f"{item.name}: done before")
            return
        try:
            done = analyze_input(item, self.recognizer, self.settings)
        except Exception as error:  # noqa: BLE001 - one bad file must not cost the others their results
            self._failed(explain(error, f"{item.name}: "))
            if manifest is not None:
                manifest.add(item, state="failed", why=self.failures[-1], outputs=[])
            return
        told = _as_json(done, self.recognizer)
        self.finished.append(told)
        if manifest is not None:
            manifest.add(item, state="done", outputs=told["outputs"], done=told)
        for warning in done.warnings:
            complain(f"{done.source}: {warning}")
        if self.show:
            _print(done, self.recognizer, in_full=len(self.finished) <= TABLES_SHOWN)

    def _failed(self, why: str) -> None:
        self.failures.append(why)
        complain(why)

    def _joint_table(self) -> None:
        """The records of all inputs in one table, read back from their own."""
        from mien.run.records import rows_of
        from mien.run.sinks import record_path, record_writer

        out, formats = self.settings.out, self.settings.formats
        with record_writer(out / "all", formats, self.recognizer.labels) as table:
            for done in self.finished:
                (own,) = (path for path in done["outputs"] if path.endswith(f".records.{formats[0]}"))
                for rows in rows_of(own):
                    table.write(rows)
        if self.show:
            paths = ", ".join(str(record_path(out / "all", name)) for name in formats)
            say(f"all records in one table: {paths}")


def _sampling(fps: float | None, every: float | None, begin: str, end: str | None) -> Sampling:
    """--fps, --every, --from and --to → which frames of a video are analysed."""
    from mien.core.errors import UsageError
    from mien.run.video_in import Sampling

    if fps is not None and every is not None:
        raise UsageError("--fps and --every", "both say how often", "give one of them")
    from_s, to_s = _seconds("--from", begin), None if end is None else _seconds("--to", end)
    if to_s is not None and to_s <= from_s:
        raise UsageError(f"--to {end}", f"does not come after --from {begin}", "name a later time")
    return Sampling(from_s, to_s, 1 / fps if fps else every or 0.0)


def _seconds(option: str, text: str) -> float:
    """``83``, ``1:23`` or ``0:01:23.5`` → seconds."""
    from mien.core.errors import UsageError

    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)", text.strip())
    if match is None:
        raise UsageError(f"{option} {text}", "is no time", "give seconds, or as in 1:23 or 1:02:03.5")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


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

    values = done.to_json()
    if not done.is_video:
        result = FrameResult(done.source, 0, 0.0, (0, 0), done.faces)
        values["records"] = records_of(result, recognizer.model_name, recognizer.detector_name)
    return values
