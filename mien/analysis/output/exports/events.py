"""Events of a clip, segments and peaks, as other programs take them; and the files of all formats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from importlib import import_module
from math import ceil, floor, inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.analysis.output.exports.timecode import (
    DROPPED_NUMBERS,
    estimate_frame_rate,
    format_timecode,
    parse_frame_rate,
    parse_timecode,
)  # fmt: skip
from mien.analysis.people.peaks import ROUNDING_S, Peak, PeakRule
from mien.analysis.people.people import PeopleAccumulator, Segment
from mien.analysis.people.records import Records, read_clip
from mien.analysis.people.summary import clip_name, read_summary
from mien.core.errors import DataError, UsageError
from mien.core.files import make_folder, write_text
from mien.core.labels import normalize_label

if TYPE_CHECKING:
    from mien.analysis.api.analysis import Analysis


@dataclass(frozen=True)
class EventFormat:
    """A format of `mien events`.

    module              in this package; it has ``format_events(events, format) -> {file extension: text}``
    is_frame_accurate   whether its times are numbers of frames, to which times are rounded if the frame rate varies
    """

    module: str
    is_frame_accurate: bool = False


#: Name of a format → the format.
EVENT_FORMATS = {
    "eaf": EventFormat("elan"),
    "boris": EventFormat("boris"),
    "textgrid": EventFormat("textgrid"),
    "srt": EventFormat("subtitles"),
    "vtt": EventFormat("subtitles"),
    "otio": EventFormat("otio", is_frame_accurate=True),
    "edl": EventFormat("edl", is_frame_accurate=True),
    "fcpxml": EventFormat("fcpxml", is_frame_accurate=True),
    "csv": EventFormat("event_table"),
}

#: Peaks of one person and expression that are written: all of them.
MAX_PEAKS = 100_000


@dataclass(frozen=True)
class ClipEvents:
    """Segments and peaks of one video, with what other programs want to know of it; times as a player shows them.

    name             of the clip, without an extension
    media            the video: a path, absolute where the file was found, or an address
    folder           where the files are to lie, so that links to the video may be relative
    labels           the expressions that were asked for
    people           track → name, in order of the tracks
    segments, peaks  in order of time; segments of one person do not overlap
    end_s            when the clip ends
    rate             frames per second
    is_constant_rate whether every frame is shown for the same time
    start_frame      number of the first frame in timecode
    is_drop_frame    whether timecodes are drop-frame
    made             when the records were written
    """

    name: str
    media: Path | str
    folder: Path
    labels: tuple[str, ...]
    people: dict[int, str]
    segments: tuple[Segment, ...]
    peaks: tuple[Peak, ...]
    end_s: float
    rate: Fraction
    is_constant_rate: bool
    start_frame: int
    is_drop_frame: bool
    model: str
    detector: str
    made: datetime

    @property
    def media_url(self) -> str:
        """The address of the video, ``file:`` for a path."""
        return self.media.as_uri() if isinstance(self.media, Path) else self.media

    @property
    def media_name(self) -> str:
        """The name of the video's file."""
        return self.media.name if isinstance(self.media, Path) else self.media.rpartition("/")[2] or self.media

    @property
    def end_frame(self) -> int:
        """The number of frames, as far as it is known."""
        return max(1, self.frame_at(self.end_s))

    def frame_at(self, time_s: float) -> int:
        """Return the number of the frame, from 0, that begins at this time or next to it."""
        return round(time_s * self.rate)

    def frame_range(self, segment: Segment) -> tuple[int, int]:
        """Return the number of the first frame of a segment, and of the first after it."""
        start = self.frame_at(segment.start_s)
        return start, max(start + 1, self.frame_at(segment.end_s))

    def timecode(self, frame: int) -> str:
        """Return the timecode of a frame."""
        return format_timecode(self.start_frame + frame, self.rate, is_drop_frame=self.is_drop_frame)

    def describe_peak(self, peak: Peak) -> str:
        """Return what a mark in a program says of a peak: ``happy 93%``."""
        return f"{peak.label}{'?' if peak.is_unsure else ''} {peak.probability:.0%}"


def round_up_ms(time_s: float) -> int:
    """Return milliseconds, rounded up: a program that seeks to them shows the frame that begins at this time, not the one before."""
    return ceil(1000 * (time_s - ROUNDING_S))


def round_down_ms(time_s: float) -> int:
    """Return milliseconds, rounded down: what a player shows from then on is there with the frame that begins at this time."""
    return max(0, floor(1000 * (time_s + ROUNDING_S)))


def parse_event_formats(formats: str | Iterable[str]) -> tuple[str, ...]:
    """``"eaf,srt"`` → ("eaf", "srt"). Raises UsageError, with the choices, for an unknown format, and where there is none."""
    names = formats.split(",") if isinstance(formats, str) else formats
    chosen = tuple(dict.fromkeys(name.strip().lower() for name in names if name.strip()))
    unknown = [name for name in chosen if name not in EVENT_FORMATS]
    if unknown or not chosen:
        raise UsageError(f"`format={','.join(unknown)}`", "is unknown", f"choose from {', '.join(EVENT_FORMATS)}")
    return chosen


def collect_events(
    records: Records | Analysis | str | Path,
    folder: str | Path = ".",
    *,
    labels: Sequence[str] = (),
    min_gap_s: float = PeakRule.min_gap_s,
    min_probability: float = PeakRule.min_probability,
    min_seconds: float = 0.0,
    rate: str | Fraction | None = None,
    start_timecode: str | None = None,
    drop_frame: bool | None = None,
    media: str | Path | None = None,
) -> ClipEvents:
    """Return the events of one video.

    records          a file of records, or what `read_clip` or `mien.read_records` made of it
    folder           where the files will lie
    labels           expressions; default: all of the model
    min_gap_s, min_probability   the definition of a peak, see `PeakRule`
    min_seconds      shorter segments are left out
    rate             frames per second; default: that of the records
    start_timecode   timecode of the first frame; default: 00:00:00:00
    drop_frame       whether timecodes are drop-frame; default: at 29.97 and 59.94 frames per second, or as ``start_timecode``
    media            the video; default: the one that the records name

    Raises DataError where nobody is seen, UsageError for a label, a rate or a timecode that cannot be used.
    """
    given = records if isinstance(records, str | Path | Records) else records.records
    records = given if isinstance(given, Records) else read_clip(given)
    if (records.track < 0).any():
        raise DataError(records.path, "is a picture, which has no events", "name the records of a video")
    chosen = _parse_labels(labels, records.labels)
    found = PeopleAccumulator(
        records.labels, PeakRule(min_gap_s, min_probability, MAX_PEAKS), given_names=records.names
    )
    segments = _trim_overlaps(found.segments(records.observations()))
    if not segments:
        raise DataError(records.path, "nobody is seen in it", "what was found is probably no face; see the summary")
    fraction, is_constant = estimate_frame_rate(records.frame, records.player_time_s, records.duration_s)
    if rate is not None:
        fraction, is_constant = rate if isinstance(rate, Fraction) else parse_frame_rate(rate), True
    start_frame, is_drop_frame = _parse_start(start_timecode, drop_frame, fraction)
    return ClipEvents(
        clip_name(records.path),
        _find_media(records, media),
        Path(folder),
        chosen,
        {person.track: person.short_name for person in sorted(found.people, key=lambda one: one.track)},
        tuple(one for one in segments if one.label in chosen and one.end_s - one.start_s >= min_seconds),
        tuple(sorted((one for name in chosen for one in found.peaks(name)), key=lambda one: (one.player_time_s, one.track))),
        _find_end_s(records),
        fraction,
        is_constant,
        start_frame,
        is_drop_frame,
        records.model,
        records.detector,
        _find_time(records.path),
    )  # fmt: skip


def write_events(
    records: ClipEvents | Records | Analysis | str | Path,
    out: str | Path = "mien-out",
    formats: str | Iterable[str] = "csv",
    **options: Any,
) -> list[Path]:
    """Write segments and peaks for other programs: ``clip.events.eaf`` and so on in ``out``; return the paths.

    records: a file of records, what `read_clip` or `mien.analyze_video` made of it, or the events themselves. formats: of EVENT_FORMATS, as a list or a
    text with commas. options: as `collect_events` takes them. Raises UsageError for an unknown format, MissingExtra for "otio"
    without opentimelineio, and what `collect_events` raises.
    """
    chosen = parse_event_formats(formats)
    events = (
        replace(records, folder=Path(out))
        if isinstance(records, ClipEvents)
        else collect_events(records, out, **options)
    )
    texts: dict[str, str] = {}
    for name in chosen:
        formatter: Callable[[ClipEvents, str], dict[str, str]] = import_module(
            f"mien.analysis.output.exports.{EVENT_FORMATS[name].module}"
        ).format_events
        texts |= formatter(events, name)
    folder = make_folder(out)
    paths = [folder / f"{events.name}.events.{extension}" for extension in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths


def _parse_labels(labels: Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    names = [name if name in known else normalize_label(name) for name in labels]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"`label={unknown[0]}`", "is unknown", f"choose from {', '.join(known)}")
    return tuple(name for name in known if name in names) if names else known


def _trim_overlaps(segments: list[Segment]) -> list[Segment]:
    """End each segment where the next one of the same person begins, if that is no gap: records round their times."""
    next_start: dict[int, float] = {}
    trimmed = []
    for segment in reversed(segments):
        end_s, following_s = segment.end_s, next_start.get(segment.track, inf)
        end_s = following_s if end_s > following_s - ROUNDING_S else end_s
        next_start[segment.track] = segment.start_s
        trimmed.append(replace(segment, end_s=end_s))
    return [one for one in reversed(trimmed) if one.end_s > one.start_s]


def _parse_start(start_timecode: str | None, drop_frame: bool | None, rate: Fraction) -> tuple[int, bool]:
    """Return (number of the first frame, whether timecodes are drop-frame)."""
    if drop_frame and rate not in DROPPED_NUMBERS:
        problem = f"there is no drop-frame timecode at {float(rate):g} frames per second"
        raise UsageError("`drop_frame=True`", problem, "use it at 29.97 or 59.94")
    is_drop_frame = rate in DROPPED_NUMBERS if drop_frame is None else drop_frame
    if start_timecode is None:
        return 0, is_drop_frame
    is_drop_frame = ";" in start_timecode if drop_frame is None else drop_frame
    text = start_timecode[:-3] + (";" if is_drop_frame else ":") + start_timecode[-2:]
    return parse_timecode(text if len(start_timecode) == 11 else start_timecode, rate), is_drop_frame


def _find_time(path: Path) -> datetime:
    """Return when the records were written; now, where they are in no file."""
    is_file = path.is_file()
    return (datetime.fromtimestamp(path.stat().st_mtime) if is_file else datetime.now()).replace(microsecond=0)


def _find_media(records: Records, media: str | Path | None) -> Path | str:
    """Return the video, absolute where it is a file. Records name it as the analysis was given it, relative to its folder."""
    given = records.source if media is None else media
    if isinstance(given, str) and "://" in given:
        return given
    here = records.path.absolute().parent
    for folder in (Path.cwd(), here, here.parent):
        if (folder / given).exists():
            return (folder / given).resolve()
    if media is not None:
        raise UsageError(f"`media={media}`", "does not exist", "check the path")
    return Path(given).absolute()


def _find_end_s(records: Records) -> float:
    """Return when the clip ends: by the summary beside the records, but not before its last face."""
    last_s = float((records.player_time_s + records.duration_s).max())
    summary = read_summary(records.path)
    try:
        return max(last_s, float(summary["seconds"]) + float((summary.get("part") or {}).get("from_s") or 0.0))
    except (ValueError, KeyError, TypeError, AttributeError):
        return last_s
