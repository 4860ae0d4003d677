"""One file → its records, its annotated copy, and for a video a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mien.core.files import replacing, write_json
from mien.core.progress import progress_bar
from mien.core.types import Face, FrameResult
from mien.run.draw import DEFAULT_STYLE, Style, draw_faces
from mien.run.people import Captions, Follower, People
from mien.run.recognizer import Recognizer
from mien.run.sinks import (
    RECORD_SCHEMA,
    RecordWriter,
    picture_ending,
    record_path,
    record_writer,
    records_of,
    write_picture,
)
from mien.run.smooth import TIME_CONSTANT_S
from mien.run.sources import Input, VideoFrame, VideoSource
from mien.run.timeline import Timeline, draw_timeline

#: Frames of a video that are analysed together; 8 frames of 1920 x 1080 take 50 MB.
FRAMES_AT_ONCE = 8


@dataclass(frozen=True)
class Settings:
    """What ``analyze`` writes, and where.

    smoothing_s   the time constant along tracks; 0 smooths nothing
    watch         called with (seconds done, seconds in all or None, frames done) as a video goes on; what it raises ends
                  the analysis, and nothing is left of it
    """

    out: Path
    formats: tuple[str, ...] = ("jsonl", "csv")
    media: bool = True
    style: Style = DEFAULT_STYLE
    quiet: bool = False
    smoothing_s: float = TIME_CONSTANT_S
    watch: Callable[[float, float | None, int], None] | None = None


@dataclass
class Done:
    """What came of one input. ``faces`` holds a picture's faces; of a video the counts are kept, and its people.

    ``warnings`` say what of the input could not be read or written, and what became of it.
    """

    source: str
    is_video: bool = False
    outputs: list[Path] = field(default_factory=list)
    faces: tuple[Face, ...] = ()
    frames: int = 0
    faces_seen: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    people: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def count(self, faces: Iterable[Face]) -> None:
        names = [face.label for face in faces]
        self.frames += 1
        self.faces_seen += len(names)
        self.labels.update(names)


def analyze_input(item: Input, recognizer: Recognizer, settings: Settings, table: RecordWriter | None = None) -> Done:
    """Analyse one file and write its outputs; ``table`` gets the same records, for one table over many inputs.

    Raises MediaError where nothing could be read; a damaged video keeps what was read, with a warning.
    """
    stem = settings.out / item.stem
    with ExitStack() as stack:
        tables = [stack.enter_context(record_writer(stem, settings.formats, recognizer.labels))]
        tables += [table] if table is not None else []
        analyse = _analyze_video if item.is_video else _analyze_picture
        done = analyse(item, recognizer, settings, stem, tables)
    done.outputs += [record_path(stem, name) for name in settings.formats]
    return done


def _analyze_picture(
    item: Input, recognizer: Recognizer, settings: Settings, stem: Path, tables: list[RecordWriter]
) -> Done:
    picture = recognizer.read(item.path)
    faces = recognizer.analyze_frames([picture], thorough=True)[0]
    done = Done(item.name, faces=tuple(faces))
    done.count(faces)
    _record(FrameResult(done.source, 0, 0.0, _size_wh(picture), done.faces), recognizer, tables)
    if settings.media:
        draw_faces(picture, faces, settings.style)
        annotated = stem.with_name(f"{stem.name}.annotated{picture_ending(item.path)}")
        write_picture(picture, annotated)
        done.outputs.append(annotated)
    return done


def _analyze_video(
    item: Input, recognizer: Recognizer, settings: Settings, stem: Path, tables: list[RecordWriter]
) -> Done:
    from mien.run.video_out import video_writer

    done = Done(item.name, is_video=True)
    annotated, summary, captions, drawing = (
        stem.with_name(f"{stem.name}.{what}") for what in ("annotated.mp4", "summary.json", "vtt", "timeline.png")
    )
    follower, people, timeline = Follower(settings.smoothing_s), People(recognizer.labels), Timeline(recognizer.labels)
    with VideoSource(item.path) as source, ExitStack() as stack:
        video = stack.enter_context(video_writer(annotated, source)) if settings.media else None
        spoken = Captions(stack.enter_context(replacing(captions)).open("w", encoding="utf-8", newline="\n"))
        stack.callback(spoken.close)
        bar = stack.enter_context(progress_bar(item.path.name, source.duration_s, quiet=settings.quiet))
        for batch in _batches(source.frames(), FRAMES_AT_ONCE):
            for frame, found in zip(batch, recognizer.analyze_frames([frame.picture for frame in batch]), strict=True):
                faces = follower.follow(frame, found)
                result = FrameResult(done.source, frame.index, frame.time_s, _size_wh(frame.picture), tuple(faces))
                _record(result, recognizer, tables)
                done.count(faces)
                duration_s = float(frame.duration * source.time_base)
                people.see(faces, frame.time_s, duration_s)
                for view in (spoken, timeline):  # their time is the annotated video's, which begins at 0
                    view.see(faces, frame.time_s - source.start_s, duration_s)
                if video is not None:
                    draw_faces(frame.picture, faces, settings.style)
                    video.write(frame, frame.picture)
            bar.advance(float(sum(frame.duration for frame in batch) * source.time_base), f"{done.frames:,} frames")
            if settings.watch is not None:
                settings.watch(batch[-1].time_s - source.start_s, source.duration_s, done.frames)
        spoken.finish()
        if source.damage:
            done.warnings.append(f"{source.damage}; what was read is kept")
    if video is not None and video.sound_lost:
        done.warnings.append(f"{video.sound_lost}; the annotated video has none or only a part of it")
    done.people = [person.to_json() for person in people.by_time()]
    write_json(summary, _summary(done, result, recognizer))
    done.outputs += [annotated, summary, captions] if settings.media else [summary, captions]
    if settings.media:
        draw_timeline(timeline, [person.track for person in people.by_time()], drawing, Path(item.name).name)
        done.outputs.append(drawing)
    return done


def _record(result: FrameResult, recognizer: Recognizer, tables: list[RecordWriter]) -> None:
    rows = records_of(result, recognizer.model_name, recognizer.detector_name)
    for table in tables:
        table.write(rows)


def _summary(done: Done, last: FrameResult, recognizer: Recognizer) -> dict[str, object]:
    """The video in a few figures; ``seconds`` is the time of its last frame."""
    return {
        "schema": RECORD_SCHEMA, "source": done.source, "model": recognizer.model_name,
        "precision": recognizer.classifier.precision, "detector": recognizer.detector_name,
        "width": last.size_wh[0], "height": last.size_wh[1], "frames": done.frames, "seconds": last.time_s,
        "faces": done.faces_seen, "labels": {name: done.labels[name] for name in recognizer.labels}, "people": done.people,
        "complete": not done.warnings, "warnings": done.warnings,
    }  # fmt: skip


def _size_wh(picture: np.ndarray) -> tuple[int, int]:
    return picture.shape[1], picture.shape[0]


def _batches(frames: Iterator[VideoFrame], size: int) -> Iterator[list[VideoFrame]]:
    while batch := list(islice(frames, size)):
        yield batch
