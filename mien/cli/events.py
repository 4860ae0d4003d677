"""`mien events`: segments and peaks of a video for annotation and editing programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.analysis.output.exports.events import EVENT_FORMATS, collect_events, parse_event_formats, write_events
from mien.cli.messages import emit, pluralize, print_note
from mien.cli.options import Json, OutFolder, Quiet


def events(
    records: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="Records of one video (.jsonl, .csv or .parquet).")
    ],
    formats: Annotated[
        str,
        typer.Option("--format", help=f"A list of formats: {', '.join(EVENT_FORMATS)}."),
    ],
    label: Annotated[list[str], typer.Option(help="Write this expression only; repeat it for several.")] = [],  # noqa: B006
    min_seconds: Annotated[float, typer.Option(min=0, help="Leave out shorter segments.")] = 0.0,
    min_gap: Annotated[
        float, typer.Option(min=0, help="Minimum time in seconds between two peaks of the same person and expression.")
    ] = 2.0,
    min_probability: Annotated[float, typer.Option(min=0, max=1, help="Minimum smoothed probability of a peak.")] = 0.4,
    rate: Annotated[
        str | None, typer.Option(help="Frames per second, as 25, 29.97 or 30000/1001. Default: that of the records.")
    ] = None,
    start_timecode: Annotated[
        str | None, typer.Option(help="Timecode of the video's first frame. [default: 00:00:00:00]")
    ] = None,
    drop_frame: Annotated[
        bool | None,
        typer.Option(
            "--drop-frame/--no-drop-frame", help="Drop-frame timecodes. Default: at 29.97 and 59.94 frames per second."
        ),
    ] = None,
    media: Annotated[
        str | None, typer.Option(help="Video that the files link to. Default: the one that the records name.")
    ] = None,
    out: OutFolder = Path("mien-out"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write segments and peaks for annotation and editing programs.

    A segment is a period in which one person's label does not change; a peak is a local maximum of a smoothed probability.
    clip.records.csv gives clip.events.eaf (ELAN), clip.events.boris (BORIS), clip.events.TextGrid (Praat), clip.events.srt and
    .vtt (subtitles), clip.events.otio (OpenTimelineIO), clip.events.edl and clip.events.markers.edl (edit decision lists),
    clip.events.fcpxml (Final Cut Pro), and clip.events.csv (a table). Times are those that a player shows.
    """
    chosen = parse_event_formats(formats)
    collected = collect_events(
        records,
        out,
        labels=label,
        min_gap_s=min_gap,
        min_probability=min_probability,
        min_seconds=min_seconds,
        rate=rate,
        start_timecode=start_timecode,
        drop_frame=drop_frame,
        media=media,
    )
    if not collected.is_constant_rate and any(EVENT_FORMATS[name].is_frame_accurate for name in chosen):
        print_note(
            f"note: the frame rate varies; times are rounded to frames of {float(collected.rate):g} per second, or name --rate",
            quiet=quiet,
        )
    paths = write_events(collected, out, chosen)
    counts = f"{pluralize(len(collected.segments), 'segment')} and {pluralize(len(collected.peaks), 'peak')}"
    people = pluralize(len(collected.people), "person")
    text = f"{counts} of {people}, {float(collected.rate):g} frames per second\nwrote {', '.join(map(str, paths))}"
    result = {
        "source": str(collected.media), "rate": [collected.rate.numerator, collected.rate.denominator],
        "drop_frame": collected.is_drop_frame, "segments": len(collected.segments), "peaks": len(collected.peaks),
        "people": list(collected.people.values()), "outputs": [str(path) for path in paths],
    }  # fmt: skip
    emit(result, text, as_json=as_json, quiet=quiet)
