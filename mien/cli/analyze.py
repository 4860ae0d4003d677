"""`mien analyze`: files and folders → records and annotated media."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from mien.analysis.inference.classifier import TTA
from mien.analysis.media.video_reader import Sampling
from mien.analysis.output.style import Style, parse_color
from mien.analysis.output.writers import parse_formats
from mien.analysis.recognizer import Recognizer
from mien.analysis.settings import AnalysisContext, AnalysisOptions, parse_outputs, parse_people
from mien.cli.analyze_inputs import Analysis, GracefulStop
from mien.cli.messages import emit, print_error
from mien.cli.options import Detector, DetectorModel, Json, ModelName, OutFolder, Precision, Quiet, Tta, parse_time
from mien.cli.supervision import last_crash
from mien.core.errors import UsageError
from mien.core.picture_formats import HEIF_SUFFIXES
from mien.core.pictures import MAX_PIXELS

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT", help="Pictures, videos, folders of them, camera:0, or addresses of streams."),
]
Formats = Annotated[str, typer.Option("--format", help="Formats of the records: a list of jsonl, csv, parquet.")]
NoMedia = Annotated[
    bool, typer.Option("--no-media", help="Write no annotated pictures or videos, like --outputs without media.")
]
Outputs = Annotated[
    str,
    typer.Option(
        "--outputs",
        help="Outputs beside the records (and a video's summary): a list of media, captions, timeline, page; or none.",
    ),
]
People = Annotated[
    str, typer.Option("--people", help="Faces of each picture or frame: all, largest, or N for the N largest.")
]
Smoothing = Annotated[
    float, typer.Option("--smoothing", min=0, help="Video: time constant of the smoothing in seconds; 0: off.")
]
Fps = Annotated[
    float | None, typer.Option("--fps", min=0.001, help="Video: frames analyzed per second. [default: all]")
]
Every = Annotated[
    float | None, typer.Option("--every", min=0.001, help="Video: seconds from one analyzed frame to the next.")
]
Begin = Annotated[str, typer.Option("--from", metavar="TIME", help="Video: start time, in seconds or as 1:02:03.5.")]
End = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help="Video: end time. [default: the end of the video]")
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Skip inputs that an earlier run into the same folder finished. An interrupted run is continued without it, too.",
    ),
]
Unsure = Annotated[
    str,
    typer.Option("--unsure", help="Mark labels of lower confidence: auto (the model's threshold), off, or 0 to 1."),
]
DropNonFaces = Annotated[
    str,
    typer.Option("--drop-non-faces", help="Drop probable non-faces: off (only mark them), auto, or a score of 0 to 1."),
]
Color = Annotated[
    str, typer.Option("--color", help="Color of boxes and labels: a name like lime, #00ff00, or 0,255,0.")
]
LineWidth = Annotated[
    int, typer.Option("--line-width", min=0, max=100, help="Line width of the boxes in pixels; 0: automatic.")
]
TextSize = Annotated[
    int, typer.Option("--text-size", min=0, max=400, help="Text height of the labels in pixels; 0: automatic.")
]
Bars = Annotated[bool, typer.Option("--bars", help="Draw bars of all probabilities beside each face.")]
DisplayWidth = Annotated[
    int, typer.Option("--display-width", min=0, max=16_383, help="Width of annotated media in pixels; 0: unchanged.")
]
Blur = Annotated[
    str, typer.Option("--blur", help="Hide faces in annotated media: off, blur or box. Records stay as they are.")
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Refuse pictures and video frames of more pixels. [default: 400,000,000; of a video 67,108,864]",
    ),
]
AllowTruncated = Annotated[
    bool, typer.Option("--allow-truncated", help="Analyze the part of a truncated picture that can be decoded.")
]

#: Printed once, where nobody chose the built-in detector.
DETECTOR_NOTE = (
    "Faces were found by OpenCV's Haar cascade, which finds upright frontal faces. YuNet also finds small, turned and tilted "
    "faces, in a fraction of the time: mien models pull yunet"
)


def analyze(
    inputs: Inputs,
    out: OutFolder = Path("mien-out"),
    model: ModelName = "base",
    detector: Detector = "auto",
    detector_model: DetectorModel = None,
    formats: Formats = "jsonl,csv",
    no_media: NoMedia = False,
    outputs: Outputs = "media,captions,timeline,page",
    people: People = "all",
    smoothing: Smoothing = 0.25,
    fps: Fps = None,
    every: Every = None,
    begin: Begin = "0",
    end: End = None,
    resume: Resume = False,
    tta: Tta = "none",
    precision: Precision = "auto",
    unsure: Unsure = "auto",
    drop_non_faces: DropNonFaces = "off",
    color: Color = "lime",
    line_width: LineWidth = 0,
    text_size: TextSize = 0,
    bars: Bars = False,
    display_width: DisplayWidth = 0,
    blur: Blur = "off",
    max_pixels: MaxPixels = None,
    allow_truncated: AllowTruncated = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Find faces in pictures and videos and classify their expressions.

    photo.jpg gives photo.annotated.jpg and photo.records.jsonl (and .csv). clip.mp4 gives clip.annotated.mp4 with the original
    sound, its records, clip.summary.json with a table of people, clip.timeline.png, clip.timeline.html (with the extra
    "report"), and captions in clip.vtt. Several inputs also give one table of all records, and manifest.jsonl lists the result of
    each.

    The same command continues an interrupted run. Ctrl-C ends the recording of a camera or a stream and finishes its outputs.

    Formats: JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, JPEG 2000, PPM, HEIC (with the extra "heic"), and the video formats of
    FFmpeg. The content of a file decides, not its name. Animated pictures are analyzed as videos. Folders are searched with
    all folders below them.
    """
    stop, chosen = GracefulStop(), parse_outputs(outputs)
    options = AnalysisOptions(
        model=model,
        detector=detector,
        detector_model=None if detector_model is None else str(detector_model),
        tta=cast(TTA, tta),
        precision=precision,
        unsure=unsure,
        drop_non_faces=drop_non_faces,
        people=parse_people(people),
        max_pixels=max_pixels or MAX_PIXELS,
        allow_truncated=allow_truncated,
        smoothing_s=smoothing,
        sampling=_parse_sampling(fps, every, begin, end),
        formats=parse_formats(formats),
        outputs=tuple(name for name in chosen if not (name == "media" and no_media)),
        style=Style(parse_color(color), line_width, text_size, bars, display_width, blur=blur),
    )
    context = AnalysisContext(out, options, quiet=quiet or as_json, should_stop=stop.is_requested)
    recognizer = Recognizer.from_options(options)
    analysis = Analysis(recognizer, context, resume, not (quiet or as_json), stop, last_crash())
    analysis.run(inputs)
    has_default_detector = detector == "auto" and recognizer.detector_name == "haar"
    note = DETECTOR_NOTE if analysis.finished and has_default_detector else ""
    emit(_document(recognizer, analysis), note, as_json=as_json, quiet=quiet)
    return _exit_code(analysis)


def _document(recognizer: Recognizer, analysis: Analysis) -> dict[str, Any]:
    """Return what --json prints."""
    return {
        "model": recognizer.model_name,
        "precision": recognizer.classifier.precision,
        "detector": recognizer.detector_name,
        "inputs": analysis.finished,
        "failures": analysis.failures,
        "left_out": analysis.left_out,
    }


def _exit_code(analysis: Analysis) -> int:
    """Return the exit code; print how many of several inputs failed."""
    finished, failures = analysis.finished, analysis.failures
    if not finished:
        return 2
    if failures:
        problem = "failed" if analysis.not_done == len(failures) else "failed or were not begun"
        print_error(f"{analysis.not_done} of {analysis.not_done + len(finished)} inputs {problem}; the rest is done")
    needs_extra = HEIF_SUFFIXES.intersection(analysis.left_out)
    return 1 if failures or needs_extra or any(done["warnings"] for done in finished) else 0


def _parse_sampling(fps: float | None, every: float | None, begin: str, end: str | None) -> Sampling:
    """Return which frames of a video --fps, --every, --from and --to select."""
    if fps is not None and every is not None:
        raise UsageError("--fps and --every", "both say how often", "give one of them")
    if not math.isfinite((fps or 1) * (every or 1)):
        raise UsageError("--fps or --every", "is not a finite number", "as in --fps 5")
    from_s, to_s = parse_time("--from", begin), None if end is None else parse_time("--to", end)
    if to_s is not None and to_s <= from_s:
        raise UsageError(f"--to {end}", f"does not come after --from {begin}", "name a later time")
    return Sampling(from_s, to_s, 1 / fps if fps else every or 0.0)
