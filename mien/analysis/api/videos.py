"""Videos from Python: a file to the end, a camera frame by frame, frames of a program's own, and records from disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from mien.analysis.api.analysis import Analysis
from mien.analysis.api.frame_stream import FrameStream, OwnFrameStream, VideoStream
from mien.analysis.api.saving import claim_outputs
from mien.analysis.media.frame_source import FrameSource, TimedPicture
from mien.analysis.media.inputs import Input, list_inputs
from mien.analysis.media.video_reader import Sampling
from mien.analysis.output.writers import RecordWriter, parse_formats
from mien.analysis.people import records as record_files
from mien.analysis.people.records import RecordBuilder, Records
from mien.analysis.pipeline import analyze_input
from mien.analysis.recognizer import Recognizer
from mien.analysis.settings import DEFAULT_OPTIONS, AnalysisContext, AnalysisOptions
from mien.analysis.video_facts import read_facts
from mien.core.errors import DataError, MediaError, UsageError

#: Options that choose the model, the detector and the thresholds: a recognizer has them already.
_OF_RECOGNIZER = {
    "model", "detector", "detector_model", "detector_threshold", "tta", "precision", "unsure", "drop_non_faces", "people",
    "max_pixels", "allow_truncated",
}  # fmt: skip

#: Parts of `Sampling`, and frames a second, which are options of their own here.
_OF_SAMPLING = ("from_s", "to_s", "every_s", "fps")


def analyze_video(
    path: str | Path,
    *,
    out: str | Path | None = None,
    recognizer: Recognizer | None = None,
    options: AnalysisOptions | None = None,
    progress: bool = True,
    **settings: Any,
) -> Analysis:
    """Analyze a video to its end and return its records, people, segments, peaks and timeline.

    >>> import mien
    >>> analysis = mien.analyze_video("clip.mp4", people=1, to_s=60)
    >>> analysis.to_pandas("people")

    Args:
        path: a video file, an animated picture, the address of a stream, or "camera:0". A camera needs ``to_s``, and
            a live stream ends only with it; `iterate_video` needs none.
        out: a folder for the files that ``mien analyze --out`` writes; None writes nothing.
        recognizer: a model and a detector that are loaded already, as for many videos.
        options: an `AnalysisOptions`; ``settings`` change single ones of it.
        progress: whether a bar is shown, on a terminal and in notebooks.
        **settings: any option of `AnalysisOptions`, as in ``model="nano"``, ``detector="yunet"`` or ``smoothing_s=0``; and
            ``from_s``, ``to_s``, ``every_s`` (seconds) or ``fps``, which part of the video and how many of its frames.

    Memory grows by about 300 bytes a face; use `iterate_video` where that is too much. With ``out`` an interrupted analysis
    is continued by the same call.

    Raises MediaError for what is no video or cannot be read, UsageError for an option that cannot be used, ModelError for a
    model or detector, OutputError for a folder that cannot be written. A damaged video keeps what was read: see
    ``analysis.warnings``.
    """
    chosen = _choose_options(recognizer, options, settings)
    item, recognizer = _find_video(path), recognizer or Recognizer.from_options(chosen)
    if item.file is None and chosen.sampling.to_s is None and _is_endless(item):
        raise UsageError("`to_s`", "is needed for a camera", "as in `to_s=60`, or use `mien.iterate_video`")
    if out is not None:
        return _analyze_into(Path(out), item, recognizer, chosen, progress)
    collector = _Collector(item.name, recognizer)
    with VideoStream(item, recognizer, chosen, progress) as stream:
        for frame in stream:
            collector.write(frame.to_records())
    key = _fingerprint(recognizer, chosen)
    return Analysis(
        collector.finish(), stream.facts, chosen, accumulator=stream.accumulator, item=item, key=key,
        max_frame_pixels=recognizer.max_frame_pixels,
    )  # fmt: skip


def iterate_video(
    path: str | Path,
    *,
    recognizer: Recognizer | None = None,
    options: AnalysisOptions | None = None,
    **settings: Any,
) -> FrameStream:
    """Return an iterator over the frames of a video, a camera or a stream with their faces, tracked and smoothed.

    >>> for frame in mien.iterate_video("camera:0"):
    ...     print(frame.time_s, [face.smoothed_label for face in frame.faces])

    What is held does not grow with the video. Arguments and errors are those of `analyze_video`; those of the video itself
    come with the frame at which they are met. Of a live source, frames are left out where the loop is slower than it.
    """
    chosen = _choose_options(recognizer, options, settings)
    return VideoStream(_find_video(path), recognizer or Recognizer.from_options(chosen), chosen)


def analyze_frames(
    frames: Iterable[TimedPicture],
    *,
    name: str = "frames",
    recognizer: Recognizer | None = None,
    options: AnalysisOptions | None = None,
    **settings: Any,
) -> FrameStream:
    """Return an iterator over a program's own frames with their faces, tracked and smoothed.

    >>> for frame in mien.analyze_frames((time.monotonic(), camera.read()) for _ in range(100)):
    ...     print(frame.time_s, frame.faces)

    Args:
        frames: pairs of a time in seconds, which rises from frame to frame, and a picture: an array as `Recognizer.analyze`
            takes it, RGB uint8 (H, W, 3), or a Pillow image. A pair is taken when its frame is asked for, not before.
        name: the ``source`` of the records.
        recognizer, options, **settings: as for `analyze_video`.

    ``player_time_s`` counts from the first frame; ``duration_s`` is the time since the frame before, as of cameras.

    Raises UsageError where a time does not rise, ValueError for an array that is no picture.
    """
    chosen = _choose_options(recognizer, options, settings)
    source = FrameSource(frames, name, chosen.sampling)
    return OwnFrameStream(source, recognizer or Recognizer.from_options(chosen), chosen)


def read_records(path: str | Path, *, source: str | None = None) -> Analysis:
    """Read the records of one video that an analysis wrote, JSONL, CSV or Parquet, of schema 2 or 3.

    source: which input, where the file tells of several, as ``all.records.csv`` does.

    What only the summary knows (size, number of frames, warnings) is read from ``clip.summary.json`` beside it, if it is
    there. Raises DataError for what is not records, is damaged, or holds none.
    """
    path = Path(path)
    found = {records.source: records for records in record_files.read_records(path)}
    if not found:
        raise DataError(path, "holds no record: no face was seen", "analyze another video, or try another `detector`")
    if source is None and len(found) > 1:
        hint = f"name one with `source`: {', '.join(list(found)[:5])}{', ...' if len(found) > 5 else ''}"
        raise DataError(path, f"holds records of {len(found):,} inputs", hint)
    if source is not None and source not in found:
        raise DataError(path, f"has no records of {source}", f"choose from {', '.join(list(found)[:5])}")
    records = found[next(iter(found)) if source is None else source]
    stem = path.name.partition(".records.")[0]
    facts = read_facts(path.with_name(f"{stem}.summary.json"))
    facts = facts if facts is not None and facts.source == records.source else None
    item = Input(Path(records.source), Path(stem if len(found) == 1 else Path(records.source).stem))
    return Analysis(records, facts, DEFAULT_OPTIONS, item=item, key={"records": str(path.resolve())})


class _Collector:
    """Gather records as columns."""

    def __init__(self, name: str, recognizer: Recognizer) -> None:
        self._builder = RecordBuilder(
            Path(name), recognizer.labels, name, recognizer.model_name, recognizer.detector_name
        )

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Add records."""
        for row in rows:
            self._builder.add(0, row)

    def close(self) -> None:
        """Do nothing: the interface of a file of records."""

    def finish(self) -> Records:
        """Return the records."""
        return self._builder.finish()


def _analyze_into(out: Path, item: Input, recognizer: Recognizer, options: AnalysisOptions, progress: bool) -> Analysis:
    """Analyze a video as the command does, its files in a folder."""
    collector, key = _Collector(item.name, recognizer), _fingerprint(recognizer, options)
    parse_formats(options.formats)
    context = AnalysisContext(out, options, quiet=not progress)
    with claim_outputs(out, item, key) as (named, ownership):
        table = RecordWriter([collector])
        result = analyze_input(named, recognizer, context, table, begin=ownership.claim_stem)
        ownership.record_outputs(named, result.outputs)
    return Analysis(
        collector.finish(), result.facts, options, accumulator=result.accumulator, item=item, key=key,
        outputs=result.outputs, max_frame_pixels=recognizer.max_frame_pixels,
    )  # fmt: skip


def _fingerprint(recognizer: Recognizer, options: AnalysisOptions) -> dict[str, Any]:
    """Return what the results depend on beside the input, as the command records it."""
    return {**recognizer.fingerprint(), "options": options.output_choices()}


def _find_video(path: str | Path) -> Input:
    """Return the input of one video. Raises MediaError for a folder, a picture, and what does not exist."""
    if not isinstance(path, (str, Path)):
        raise TypeError(f"a video is a path or an address, not {type(path).__name__}: frames go to mien.analyze_frames")
    if Path(path).is_dir():
        raise MediaError(path, "is a folder, not a video", "name the videos in it one by one, or use 'mien analyze'")
    (item,) = list_inputs([path])
    if isinstance(item, MediaError):
        raise item
    if not item.is_video:
        raise MediaError(item.name, "is a picture, not a video", "use `Recognizer.analyze`", code="picture_not_video")
    return item


def _is_endless(item: Input) -> bool:
    return item.name.startswith("camera:")


def _choose_options(
    recognizer: Recognizer | None, options: AnalysisOptions | None, settings: Mapping[str, Any]
) -> AnalysisOptions:
    """Return the options that are asked for. Raises UsageError for one that is unknown, or that the recognizer has."""
    if options is None:
        options = DEFAULT_OPTIONS if recognizer is None else recognizer.options
    known = {field.name for field in fields(AnalysisOptions)}
    if unknown := sorted(set(settings) - known - set(_OF_SAMPLING)):
        raise UsageError(f"`{unknown[0]}`", "is unknown", f"choose from {', '.join(sorted((*known, *_OF_SAMPLING)))}")
    if recognizer is not None:
        if fixed := sorted(_OF_RECOGNIZER & set(settings)):
            raise UsageError(f"`{fixed[0]}`", "is set by the recognizer", "give it to `Recognizer`")
        settings = {name: getattr(recognizer.options, name) for name in _OF_RECOGNIZER} | dict(settings)
    given = {name: _plain(name, value) for name, value in settings.items() if name in known}
    sampling = _choose_sampling(given.get("sampling", options.sampling), settings)
    return replace(options, **(given | {"sampling": sampling}))


def _plain(name: str, value: Any) -> Any:
    """Return a setting as `AnalysisOptions` has it: lists become tuples, paths text."""
    if name in ("formats", "outputs"):
        return (value,) if isinstance(value, str) else tuple(value)
    return str(value) if isinstance(value, Path) else value


def _choose_sampling(sampling: Sampling, settings: Mapping[str, Any]) -> Sampling:
    """Return which frames ``from_s``, ``to_s``, ``every_s`` and ``fps`` select."""
    given = {name: settings[name] for name in _OF_SAMPLING if name in settings}
    if "fps" in given and "every_s" in given:
        raise UsageError("`fps` and `every_s`", "both say how often", "give one of them")
    if (fps := given.pop("fps", None)) is not None:
        if not fps > 0:
            raise UsageError(f"`fps={fps}`", "is no rate", "as in `fps=5`")
        given["every_s"] = 1 / fps
    try:
        return replace(sampling, **given)
    except ValueError as error:
        problem = "cannot be used: none is negative, and the end comes after the start"
        raise UsageError("`from_s`, `to_s` or `every_s`", problem, "as in `from_s=10, to_s=20`") from error
