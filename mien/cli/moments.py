"""`mien moments`: stills of a video at which an expression peaks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mien.analysis.detection.detectors import make_detector
from mien.analysis.inference.model_file import find_model, read_model_info
from mien.analysis.media.container import open_container, select_video_stream
from mien.analysis.media.inputs import Input, list_inputs, shorten_name
from mien.analysis.output.annotate import draw_faces
from mien.analysis.output.stills import crop_tile, face_from_peak, make_contact_sheet, read_frames_at, still_name
from mien.analysis.output.writers import RECORD_FORMATS, record_path, write_picture
from mien.analysis.people.peaks import Peak, PeakRule
from mien.analysis.people.people import PeopleAccumulator
from mien.analysis.people.records import Records, read_clip
from mien.analysis.people.summary import read_summary
from mien.analysis.pipeline import analyze_input
from mien.analysis.recognizer import Recognizer
from mien.analysis.settings import AnalysisContext, AnalysisOptions
from mien.cli.messages import emit, pluralize, print_error, print_note
from mien.cli.options import DetectorModel, Json, Quiet
from mien.core.errors import DataError, MediaError, UsageError
from mien.core.files import make_folder, write_json
from mien.core.labels import normalize_label
from mien.core.locks import hold_lock
from mien.core.pictures import is_animation


def moments(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video.")],
    label: Annotated[str, typer.Option(help="An expression, or all of them: all.")],
    top: Annotated[int, typer.Option(min=1, help="Maximum number of stills of each expression.")] = 12,
    person: Annotated[
        int | None, typer.Option(min=1, help="Number of the person in the video. Default: all persons.")
    ] = None,
    min_gap: Annotated[
        float, typer.Option(min=0, help="Minimum time in seconds between two stills of the same person and expression.")
    ] = 2.0,
    min_probability: Annotated[float, typer.Option(min=0, max=1, help="Minimum smoothed probability of a peak.")] = 0.4,
    plain: Annotated[bool, typer.Option("--plain", help="Write stills without box and label.")] = False,
    out: Annotated[Path, typer.Option(help="Folder to write to; records in it are used.")] = Path("mien-out"),
    records: Annotated[Path | None, typer.Option(help="Records of this video in another folder.")] = None,
    model: Annotated[str | None, typer.Option(help="Model for a video without records. [default: base]")] = None,
    detector: Annotated[str, typer.Option(help="Detector for a video without records.")] = "auto",
    detector_model: DetectorModel = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the stills of a video at which an expression peaks.

    A peak is a local maximum of a person's smoothed probability within ±--min-gap seconds; the highest come first. Records of
    'mien analyze' in --out are used; a video without records is analyzed first. Writes
    clip.moments/01-happy-0012.40s-person1.jpg and so on, moments.json beside them, and all faces on one sheet,
    clip.moments.png. Stills of an earlier call in clip.moments are replaced.
    """
    item = _open_input(video, out)
    make_folder(out)
    clip = _load_records(item, out, records, model, (detector, detector_model), label, quiet=quiet or as_json)
    names = _parse_label(label, clip.labels)
    people = clip.people(PeakRule(min_gap, min_probability, top))
    track = _find_track(person, people, item)
    chosen = [peak for name in names for peak in people.peaks(name, track=track)]
    if not chosen:
        raise _no_peak_error(item, clip, people, names, track, min_probability)
    written = _write_stills(item, clip, chosen, out, plain=plain)
    rows = written["moments"]
    lines = [f"{row['file']}: {row['label']}{'?' if row['unsure'] else ''} {row['probability']:.0%}" for row in rows]
    folder = out / f"{item.stem}.moments"
    lines.append(f"wrote {pluralize(len(chosen), 'still')} and moments.json in {folder}, and {folder}.png")
    emit(written, "\n".join(lines), as_json=as_json, quiet=quiet)


def _no_peak_error(
    item: Input,
    records: Records,
    people: PeopleAccumulator,
    names: tuple[str, ...],
    track: int | None,
    min_probability: float,
) -> MediaError:
    """Return the error for a video without a peak; it says how high the probabilities come."""
    tracks = [one for one in people.names if track in (None, one)]
    rows = np.isin(records.track, tracks)
    if not rows.any():
        return MediaError(
            item.path, "nobody is seen in it", "what was found is probably no face: see clip.summary.json"
        )
    columns = [records.labels.index(name) for name in names]
    highest = float(records.smoothed[rows][:, columns].max())
    what = f"'{names[0]}' never reaches" if len(names) == 1 else "no expression ever reaches"
    lower = f"take lower peaks with --min-probability {int(100 * highest) / 100:g}"
    return MediaError(item.path, f"{what} {min_probability:g}; the highest is {highest:.2f}", lower)


def _open_input(path: Path, out: Path) -> Input:
    """Return the video; MediaError for anything else."""
    if path.is_dir():
        raise MediaError(path, "is a folder, not a video", "name a file in it")
    (item,) = list_inputs([path], out)
    if isinstance(item, MediaError):
        raise item
    if not item.is_video:
        raise MediaError(path, "is a picture, not a video", "name a video; 'mien analyze' reads pictures")
    if is_animation(path):
        return item
    with open_container(path) as container:
        select_video_stream(container, path)
    return item


def _load_records(
    item: Input,
    out: Path,
    named: Path | None,
    model: str | None,
    detector: tuple[str, Path | None],
    label: str,
    *,
    quiet: bool,
) -> Records:
    """Return the video's records: those named, those in ``out``, or new ones."""
    clip = read_clip(named) if named else _find_records(out, item)
    if clip is not None and named and (mismatch := _describe_mismatch(clip, item)):
        print_note(f"note: {named} {mismatch}", quiet=quiet)
    if clip is None:
        return read_clip(_analyze(item, out, model, detector, label, quiet=quiet))
    _check_analysis(clip, model, detector)
    part = _describe_part(read_summary(clip.path))
    print_note(f"reading {clip.path}{part and f' ({part})'}; the video is not analyzed again", quiet=quiet)
    return clip


def _find_records(out: Path, item: Input) -> Records | None:
    """Return the records of this video in ``out``, if any; UsageError where there are only those of another."""
    full = shorten_name(Path(item.path).name)  # where two inputs had the same name; of the third it is followed by -2
    paths = [record_path(stem, name) for stem, name in product([out / item.stem, out / full], RECORD_FORMATS)]
    numbered = [path for name in RECORD_FORMATS for path in sorted(out.glob(f"{escape(full)}-*.records.{name}"))]
    others, unread = [], None
    for path in [path for path in paths if path.exists()] + numbered:
        try:
            clip = read_clip(path)
        except DataError as error:  # of a picture beside the video, or of no face
            unread = unread or (None if path in numbered else error)
            continue
        if not (mismatch := _describe_mismatch(clip, item)):
            return clip
        if path not in numbered:  # those may be of anything
            others.append(f"{path} {mismatch}")
    if others:
        raise UsageError(
            item.path, f"has no records of its own: {others[0]}", "choose another --out, or name --records"
        )
    if unread is not None:
        raise unread
    return None


def _describe_mismatch(clip: Records, item: Input) -> str:
    """Return why records may be those of another video, else ""."""
    if not _is_source(clip.source, item):
        return f"holds records of {clip.source}"
    return _describe_size_change(item, read_summary(clip.path))


def _is_source(source: str, item: Input) -> bool:
    """Return whether records name this video; the path may be relative to another folder."""
    if source == item.name:
        return True
    other = Path(source)
    return other.name == Path(item.path).name and not (other.exists() and not other.samefile(item.path))


def _describe_size_change(item: Input, summary: dict[str, Any]) -> str:
    """Return why a summary is that of another file of the same name, else ""."""
    was, now = summary.get("bytes"), Path(item.path).stat().st_size
    if was in (None, now):
        return ""
    return f"holds records of a file of this name with {was:,} bytes, and it has {now:,} now"


def _describe_part(summary: dict[str, Any]) -> str:
    """Return which part of the video the records cover; "" for all of it."""
    part = summary.get("part") or {}
    words = [
        f"from {part['from_s']:g} s" if part.get("from_s") else "",
        f"to {part['to_s']:g} s" if part.get("to_s") is not None else "",
        f"a frame every {part['every_s']:g} s" if part.get("every_s") else "",
    ]
    return " ".join(word for word in words if word)


def _check_analysis(clip: Records, model: str | None, detector: tuple[str, Path | None]) -> None:
    """Raise UsageError where the records are those of another model or detector than the one asked for."""
    if model is not None and (requested := read_model_info(find_model(model)).name) != clip.model:
        raise UsageError(clip.path, f"holds records by the model {clip.model}, not {requested}", "choose another --out")
    name, file = detector
    requested_detector = name if file is None else make_detector(name, file).name
    if requested_detector not in ("auto", clip.detector):
        raise UsageError(
            clip.path,
            f"holds records by the detector {clip.detector}, not {requested_detector}",
            "choose another --out",
        )


def _analyze(
    item: Input, out: Path, model: str | None, detector: tuple[str, Path | None], label: str, *, quiet: bool
) -> Path:
    """Analyze the video without media; return the path of its records."""
    options = AnalysisOptions(
        model=model or "base",
        detector=detector[0],
        detector_model=None if detector[1] is None else str(detector[1]),
        formats=("jsonl",),
        outputs=("captions",),
    )
    recognizer = Recognizer.from_options(options)
    _parse_label(label, recognizer.labels)  # before the work, not after it
    done = analyze_input(item, recognizer, AnalysisContext(out, options, quiet=quiet))
    for warning in done.warnings:
        print_error(f"{done.source}: {warning}")
    return record_path(out / item.stem, "jsonl")


def _parse_label(label: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if label == "all":
        return known
    name = label if label in known else normalize_label(label)
    if name not in known:
        raise UsageError(f"--label {label}", "is unknown", f"choose all or one of {', '.join(known)}")
    return (name,)


def _find_track(person: int | None, people: PeopleAccumulator, item: Input) -> int | None:
    """Return the track of ``--person``; None for all."""
    if person is None or person - 1 in people.names:
        return None if person is None else person - 1
    tracks = [track + 1 for track in people.names]
    listed = ", ".join(map(str, tracks[:12])) + (" and so on" if len(tracks) > 12 else "")
    raise UsageError(f"--person {person}", f"is not seen in {Path(item.path).name}", f"choose one of {listed}")


def _write_stills(item: Input, records: Records, chosen: list[Peak], out: Path, *, plain: bool) -> dict[str, Any]:
    """Write the stills, the sheet and moments.json; return the content of moments.json."""
    folder = make_folder(out / f"{item.stem}.moments")
    summary = read_summary(records.path)
    has_rebuilt_times = bool(summary.get("has_rebuilt_times", summary.get("joined")))  # version 0.1 says joined
    order = sorted(range(len(chosen)), key=lambda index: chosen[index].time_s)
    tiles: dict[int, np.ndarray] = {}
    rows: dict[int, dict[str, Any]] = {}
    with _staging_folder(folder) as staging:  # a video that breaks off leaves the old ones
        pictures = read_frames_at(
            Path(item.path), [chosen[i].time_s for i in order], has_rebuilt_times=has_rebuilt_times
        )
        for index, picture in zip(order, pictures, strict=True):
            peak = chosen[index]
            tiles[index] = crop_tile(picture, peak.box_xyxy)
            if not plain:
                draw_faces(picture, [face_from_peak(peak, records.labels)])
            path = staging / f"{index + 1:0{max(2, len(str(len(chosen))))}d}-{still_name(peak)}.jpg"
            write_picture(picture, path)
            rows[index] = {"file": str(folder / path.name), **peak.to_json()}
        _remove_old_stills(folder)
        for path in staging.iterdir():
            path.replace(folder / path.name)
    places = range(len(chosen))
    write_picture(
        make_contact_sheet([tiles[place] for place in places], chosen, records.names), out / f"{item.stem}.moments.png"
    )
    written = {"source": item.name, "records": str(records.path), "model": records.model, "detector": records.detector,
               "moments": [rows[place] for place in places]}  # fmt: skip
    write_json(folder / "moments.json", written)
    return written


@contextmanager
def _staging_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder for unfinished stills. It is always the same, so that the next call removes those of a killed process."""
    new = folder / ".new"
    with hold_lock(folder / ".lock", folder, "wait for it, or choose another folder with --out"):
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        try:
            yield new
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _remove_old_stills(folder: Path) -> None:
    """Remove the stills that the moments.json of an earlier call names; other files stay."""
    listed = folder / "moments.json"
    try:
        names = [Path(row["file"]).name for row in json.loads(listed.read_text(encoding="utf-8"))["moments"]]
    except (OSError, ValueError, KeyError, TypeError):  # none, or not ours
        return
    for name in names:
        (folder / name).unlink(missing_ok=True)
    listed.unlink()
