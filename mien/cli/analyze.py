"""`mien analyze`: files and folders → records and annotated media."""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mien.cli.messages import print_error
from mien.cli.options import Json, Precision, Quiet, Tta
from mien.core.progress import echo

if TYPE_CHECKING:
    from mien.analysis.inference.classifier import TTA
    from mien.analysis.media.inputs import Input
    from mien.analysis.media.video_reader import Sampling


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
        bool, typer.Option("--no-media", help="Write no annotated pictures or videos: --outputs without media.")
    ] = False,
    outputs: Annotated[
        str,
        typer.Option(
            help="What is written beside the records (and a video's summary): a list of media, captions, timeline, page; or none."
        ),
    ] = "media,captions,timeline,page",
    people: Annotated[
        str, typer.Option(help="Which faces of a picture or frame: all, largest, or so many of the largest.")
    ] = "all",
    smoothing: Annotated[
        float,
        typer.Option(min=0, help="Video: time constant of smoothing along a person's track, in seconds; 0: off."),
    ] = 0.25,
    fps: Annotated[
        float | None, typer.Option(min=0.001, help="Video: analyze so many frames a second. [default: all]")
    ] = None,
    every: Annotated[
        float | None, typer.Option(min=0.001, help="Video: analyze one frame every so many seconds.")
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
    color: Annotated[
        str, typer.Option(help="Color of boxes and labels: a name, as in lime; #00ff00; or 0,255,0.")
    ] = "lime",
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
        int, typer.Option(min=0, max=16_383, help="Width of annotated media in pixels; 0 leaves it as it is.")
    ] = 0,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Refuse pictures, and videos whose frames have, more pixels than this. [default: 400,000,000; "
            "of a video 67,108,864]",
        ),
    ] = None,
    allow_truncated: Annotated[
        bool, typer.Option("--allow-truncated", help="Analyze what decodes of a picture file that is cut off.")
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

    Reads JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, JPEG 2000, PPM, HEIC (with the extra "heic"), and the video formats of
    FFmpeg; folders with all below them. What a file is goes by its content. A picture that moves is analyzed as a video.
    """
    from mien.analysis.output.style import Style, parse_color
    from mien.analysis.output.writers import check_formats
    from mien.analysis.recognizer import Recognizer
    from mien.analysis.settings import AnalysisContext, AnalysisOptions, parse_outputs, parse_people
    from mien.cli.analyze_inputs import Analysis
    from mien.cli.supervision import last_crash
    from mien.core.pictures import MAX_PIXELS

    stopping, chosen = Stopping(), parse_outputs(outputs)
    options = AnalysisOptions(
        model=model,
        detector=detector,
        detector_model=None if detector_model is None else str(detector_model),
        tta=cast("TTA", tta),
        precision=precision,
        unsure=unsure,
        drop_non_faces=drop_non_faces,
        people=parse_people(people),
        max_pixels=max_pixels or MAX_PIXELS,
        allow_truncated=allow_truncated,
        smoothing_s=smoothing,
        sampling=_sampling(fps, every, begin, end),
        formats=check_formats(format),
        outputs=tuple(name for name in chosen if not (name == "media" and no_media)),
        style=Style(parse_color(color), line_width, text_size, bars, display_width),
    )
    context = AnalysisContext(out, options, quiet=quiet or as_json, should_stop=stopping.is_wanted)
    recognizer = Recognizer.from_options(options)
    analysis = Analysis(recognizer, context, resume, not (quiet or as_json), stopping, last_crash())
    analysis.run(inputs)
    finished, failures = analysis.finished, analysis.failures
    if finished and detector == "auto" and recognizer.detector_name == "haar" and not (quiet or as_json):
        echo(BETTER_DETECTOR)
    if as_json:
        document = {
            "model": recognizer.model_name,
            "precision": recognizer.classifier.precision,
            "detector": recognizer.detector_name,
            "inputs": finished,
            "failures": failures,
            "left_out": analysis.left_out,
        }
        echo(json.dumps(document, indent=2))
    if failures and finished:
        what = "failed" if analysis.not_done == len(failures) else "failed or were not begun"
        print_error(f"{analysis.not_done} of {analysis.not_done + len(finished)} inputs {what}; the rest is done")
    if not finished:
        return 2
    from mien.core.picture_formats import HEIF_SUFFIXES

    could_be_read = HEIF_SUFFIXES.intersection(analysis.left_out)  # with an extra that is not there
    return 1 if failures or could_be_read or any(done["warnings"] for done in finished) else 0


#: Said once, where nobody chose the built-in detector.
BETTER_DETECTOR = (
    "Faces were found by OpenCV's Haar cascade, which sees upright frontal faces. YuNet also finds small, turned and tilted "
    "ones, and takes a fraction of the time: mien models pull yunet"
)


class Stopping:
    """Ctrl-C ends a camera or a stream in good order: what was seen until then is finished, and no other input is begun."""

    def __init__(self) -> None:
        self._wanted = False

    def is_wanted(self) -> bool:
        return self._wanted

    @contextmanager
    def during(self, item: Input) -> Iterator[None]:
        """While a stream is analyzed, Ctrl-C means this; with a file it ends the program, which goes on from there."""
        if not isinstance(item.path, str):
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


def _sampling(fps: float | None, every: float | None, begin: str, end: str | None) -> Sampling:
    """--fps, --every, --from and --to → which frames of a video are analyzed."""
    from mien.analysis.media.video_reader import Sampling
    from mien.core.errors import UsageError

    if fps is not None and every is not None:
        raise UsageError("--fps and --every", "both say how often", "give one of them")
    if not math.isfinite((fps or 1) * (every or 1)):
        raise UsageError("--fps or --every", "is not a finite number", "as in --fps 5")
    from_s, to_s = _seconds("--from", begin), None if end is None else _seconds("--to", end)
    if to_s is not None and to_s <= from_s:
        raise UsageError(f"--to {end}", f"does not come after --from {begin}", "name a later time")
    return Sampling(from_s, to_s, 1 / fps if fps else every or 0.0)


def _seconds(option: str, text: str) -> float:
    """``83``, ``1:23`` or ``0:01:23.5`` → seconds."""
    from mien.core.errors import UsageError

    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)", text.strip())
    if match is None or (match[2] and float(match[3]) >= 60) or (match[1] and int(match[2]) >= 60):
        raise UsageError(f"{option} {text}", "is no time", "give seconds, or as in 1:23 or 1:02:03.5")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds
