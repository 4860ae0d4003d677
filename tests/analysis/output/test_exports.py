"""Events for other programs, read back by the libraries of those programs."""

from __future__ import annotations

import csv
import json
import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import opentimelineio as otio
import pytest
from praatio import textgrid as praat
from pympi import Elan

import mien
from mien.analysis.output.exports.events import EVENT_FORMATS, ClipEvents, collect_events, write_events
from mien.core.errors import DataError, MissingExtra, UsageError
from tests.analysis.made_records import write_clip_records

NTSC = Fraction(30000, 1001)

#: Person → (label, first frame, first frame after it): a stretch in which nobody is seen lies in between.
SEGMENTS = {
    0: [("happy", 0, 31), ("angry", 31, 77), ("happy", 77, 100)],
    1: [("neutral", 10, 40), ("neutral", 200, 241)],
}
#: Person → (label, frame): the middle of each stretch, where its probability is highest.
PEAKS = {0: [("happy", 15), ("angry", 53), ("happy", 88)], 1: [("neutral", 24), ("neutral", 220)]}


def shown(track: int) -> list[str | None]:
    row: list[str | None] = [None] * 241
    for label, start, end in SEGMENTS[track]:
        row[start:end] = [label] * (end - start)
    return row


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Records of a video whose own clock begins at 11 s, at 29.97 frames per second."""
    (tmp_path / "clip.mp4").write_bytes(b"video")
    return write_clip_records(tmp_path / "clip", {track: shown(track) for track in SEGMENTS}, NTSC, start_s=11.0)


def write(path: Path, name: str, **options: object) -> Path:
    return write_events(path, path.parent / "out", name, min_gap_s=0.3, **options)[0]


def frame_on_screen(time_s: float, rate: Fraction = NTSC) -> int:
    """The frame that a player shows at this time."""
    return int(Fraction(str(time_s)) * rate)


def expected(frames: dict[int, list[tuple]]) -> list[tuple]:
    return sorted((f"person {track + 1}", *row) for track, rows in frames.items() for row in rows)


def test_elan_reads_a_tier_for_each_person_and_expression(path: Path) -> None:
    document = Elan.Eaf(str(write(path, "eaf")))
    segments, peaks = [], []
    for name in document.get_tier_names():
        person, label, *rest = re.fullmatch(r"(person \d) (\w+)( peaks)?", name).groups()
        for start, end, text in document.get_annotation_data_for_tier(name):
            row = person, label, frame_on_screen(start / 1000), frame_on_screen(end / 1000)
            (peaks if rest[0] else segments).append(row)
            assert text == (f"{label} 90%" if rest[0] else label)
    assert sorted(segments) == expected(SEGMENTS)
    assert sorted(row[:3] for row in peaks) == expected(PEAKS)
    assert {end - start for *_, start, end in peaks} == {1}
    slots = [slot for name in document.get_tier_names() for row in document.tiers[name][0].values() for slot in row[:2]]
    assert len(slots) == len(set(slots))  # what shares one is moved together in ELAN
    assert list(document.timeslots.values()) == sorted(document.timeslots.values())
    (media,) = document.get_linked_files()
    assert media["MEDIA_URL"] == (path.parent / "clip.mp4").resolve().as_uri()
    assert (media["RELATIVE_MEDIA_URL"], media["MIME_TYPE"]) == ("../clip.mp4", "video/mp4")
    assert document.get_parameters_for_tier("person 1 happy")["PARTICIPANT"] == "person 1"


def test_praat_reads_intervals_and_points(path: Path) -> None:
    grid = praat.openTextgrid(str(write(path, "textgrid")), includeEmptyIntervals=True)
    assert grid.tierNames == ("person 1", "person 1 peaks", "person 2", "person 2 peaks")
    segments, peaks = [], []
    for person in ("person 1", "person 2"):
        entries = grid.getTier(person).entries
        assert entries[0].start == 0 and entries[-1].end == grid.maxTimestamp
        assert all(one.end == following.start for one, following in pairwise(entries))
        for start, end, label in entries:
            assert start * NTSC == pytest.approx(round(start * NTSC), abs=1e-4)  # the very beginning of a frame
            if label:
                segments.append((person, label, round(start * NTSC), round(end * NTSC)))
        for time_s, label in grid.getTier(f"{person} peaks").entries:
            peaks.append((person, label.removesuffix(" 90%"), round(time_s * NTSC)))
    assert (sorted(segments), sorted(peaks)) == (expected(SEGMENTS), expected(PEAKS))


def test_boris_has_pairs_of_state_events_and_point_events(path: Path) -> None:
    project = json.loads(write(path, "boris").read_text())
    (observation,) = project["observations"].values()
    kinds = {one["code"]: one["type"] for one in project["behaviors_conf"].values()}
    open_since: dict[tuple[str, str], int] = {}
    segments, peaks = [], []
    for time_s, subject, code, _, _ in observation["events"]:
        frame = frame_on_screen(time_s)
        if kinds[code] == "Point event":
            peaks.append((subject, code.removesuffix(" peak"), frame))
        elif (subject, code) in open_since:
            segments.append((subject, code, open_since.pop((subject, code)), frame))
        else:
            open_since[subject, code] = frame
    assert (sorted(segments), sorted(peaks), open_since) == (expected(SEGMENTS), expected(PEAKS), {})
    times = [event[0] for event in observation["events"]]
    assert times == sorted(times)
    assert {one["name"] for one in project["subjects_conf"].values()} == {"person 1", "person 2"}
    media = observation["file"]["1"][0]
    assert Path(media).read_bytes() == b"video"
    assert observation["media_info"]["fps"][media] == pytest.approx(29.97003)


def test_opentimelineio_reads_markers_at_the_frames(path: Path) -> None:
    timeline = otio.adapters.read_from_file(str(write(path, "otio", start_timecode="01:00:00;00")))
    (clip,) = timeline.find_clips()
    assert clip.media_reference.target_url == (path.parent / "clip.mp4").resolve().as_uri()
    assert timeline.global_start_time.to_timecode() == "01:00:00;00"
    segments, peaks = [], []
    for marker in clip.markers:
        start, length = marker.marked_range.start_time - clip.source_range.start_time, marker.marked_range.duration
        assert start.rate == pytest.approx(float(NTSC))
        person, text = marker.name.split(": ")
        if text.startswith("peak of "):
            peaks.append((person, text.split()[2], start.value))
        else:
            segments.append((person, text, start.value, start.value + length.value))
    assert (sorted(segments), sorted(peaks)) == (expected(SEGMENTS), expected(PEAKS))
    assert {marker.color for marker in clip.markers if "angry" in marker.name} == {"RED"}


def test_final_cut_reads_keywords_and_markers(path: Path) -> None:
    (clip,) = otio.adapters.read_from_file(
        str(write(path, "fcpxml", rate="25"))
    ).find_clips()  # it knows whole rates only
    found = [(one.name, one.marked_range.start_time) for one in clip.markers]
    assert sorted(found) == [
        (f"{person}: {label} 90%", otio.opentime.RationalTime(round(frame / NTSC * 25), 25))
        for person, label, frame in expected(PEAKS)
    ]
    clip = ElementTree.parse(write(path, "fcpxml", start_timecode="01:00:00;00")).find(".//asset-clip")
    first, segments = Fraction(clip.get("start").rstrip("s")), []
    assert first * NTSC == otio.opentime.from_timecode("01:00:00;00", float(NTSC)).value
    for keyword in clip.iter("keyword"):
        begin, length = (Fraction(keyword.get(name).rstrip("s")) * NTSC for name in ("start", "duration"))
        person, label = keyword.get("value").split(": ")
        segments.append((person, label, begin - first * NTSC, begin - first * NTSC + length))
    assert sorted(segments) == expected(SEGMENTS)  # to the frame, in exact fractions
    peaks = [Fraction(one.get("start").rstrip("s")) * NTSC - first * NTSC for one in clip.iter("marker")]
    assert peaks == sorted(frame for *_, frame in expected(PEAKS))
    assert clip.get("tcFormat") == "DF"


@pytest.mark.parametrize("is_drop_frame", [False, True])
def test_edit_decision_lists_have_locators_at_the_frames(path: Path, is_drop_frame: bool) -> None:
    first = "01:00:00;00" if is_drop_frame else "01:00:00:00"
    cuts, markers = write_events(path, path.parent / "out", "edl", min_gap_s=0.3, start_timecode=first)
    start = otio.opentime.from_timecode(first, float(NTSC)).value

    def frame(timecode: str) -> int:
        return int(otio.opentime.from_timecode(timecode, float(NTSC)).value - start)

    located = re.findall(r"^\* LOC: (\S{11}) [A-Z]+ +(.*)$", cuts.read_text(), re.MULTILINE)
    begins = [(f"{person}: {label}".upper(), row[0]) for person, label, *row in expected(SEGMENTS)]
    tops = [(f"{person}: peak of {label} 90%".upper(), row[0]) for person, label, *row in expected(PEAKS)]
    assert sorted((name, frame(time)) for time, name in located) == sorted(begins + tops)
    assert f"FCM: {'' if is_drop_frame else 'NON-'}DROP FRAME" in cuts.read_text()
    (clip,) = otio.adapters.read_from_file(str(cuts), adapter_name="cmx_3600", rate=float(NTSC)).find_clips()
    assert (clip.name, clip.source_range.duration.value) == ("clip.mp4", 241)
    assert len(clip.markers) == (0 if is_drop_frame else len(located))  # the adapter reads no ";" in locators
    events = re.findall(
        r"^\d{3}  AX .* (\S{11}) \S{11}\n \|C:ResolveColor\w+ \|M:(.*) \|D:(\d+)$", markers.read_text(), re.MULTILINE
    )
    lasting = [(name, frame(time), frame(time) + int(length)) for time, name, length in events if "peak" not in name]
    assert sorted(lasting) == [(f"{person}: {label}", *row) for person, label, *row in expected(SEGMENTS)]


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_subtitles_change_with_the_frame(path: Path, name: str) -> None:
    text = write(path, name).read_text()
    cues = re.findall(r"(\d\d):(\d\d):(\d\d)[,.](\d{3}) --> (\d\d):(\d\d):(\d\d)[,.](\d{3})\n((?:.+\n)+)", text)
    assert text.startswith("WEBVTT\n\n" if name == "vtt" else "1\n")

    def lines_at(frame: int) -> set[str]:
        now_ms = float(1000 * frame / NTSC)
        lines: list[str] = []
        for cue in cues:
            start, end = (
                ((int(h) * 60 + int(m)) * 60 + int(s)) * 1000 + int(ms) for h, m, s, ms in (cue[:4], cue[4:8])
            )
            if start <= now_ms < end:
                assert lines == []  # no two cues at once
                lines = cue[8].splitlines()
        return set(lines)

    for frame in range(241):
        assert lines_at(frame) == {
            f"person {track + 1}: {label}" for track in SEGMENTS if (label := shown(track)[frame])
        }, frame


def test_the_table_has_times_frames_and_timecodes(path: Path) -> None:
    with write(path, "csv", labels=["Angry"]).open(newline="") as file:
        segment, peak = csv.DictReader(file)
    assert segment == {
        "kind": "segment", "person": "1", "name": "person 1", "label": "angry", "start_s": "1.034367", "end_s": "2.569233",
        "seconds": "1.534866", "start_frame": "31", "end_frame": "77", "start_timecode": "00:00:01;01",
        "end_timecode": "00:00:02;17", "probability": "0.877", "sure": "",
    }  # fmt: skip
    assert (peak["kind"], peak["start_frame"], peak["probability"]) == ("peak", "53", "0.9")


def test_short_segments_are_left_out(path: Path) -> None:
    found = collect_events(path, min_seconds=1.0)
    assert [(one.track, one.label, found.frame_range(one)) for one in found.segments] == [
        (0, "happy", (0, 31)), (1, "neutral", (10, 40)), (0, "angry", (31, 77)), (1, "neutral", (200, 241))
    ]  # fmt: skip


def test_the_end_of_the_clip_is_that_of_the_summary(path: Path) -> None:
    assert collect_events(path).end_frame == 241
    path.with_name("clip.summary.json").write_text(json.dumps({"seconds": 10.01, "part": {"from_s": 1.001}}))
    assert collect_events(path).end_frame == 330


def test_odd_names_survive_every_format(tmp_path: Path) -> None:
    labels = ('he said "<&>"', "trist\x01e", "--> |")
    path = write_clip_records(
        tmp_path / "a<b> & 'c'", {0: [labels[0]] * 30 + [labels[1]] * 30 + [labels[2]] * 30}, labels=labels, source="a<b>.mp4"
    )  # fmt: skip
    paths = write_events(path, tmp_path, list(EVENT_FORMATS))
    endings = ["eaf", "boris", "TextGrid", "srt", "vtt", "otio", "edl", "markers.edl", "fcpxml", "csv"]
    assert [one.name for one in paths] == [f"a<b> & 'c'.events.{ending}" for ending in endings]
    document = Elan.Eaf(str(paths[0]))
    assert "person 1 trist\\x01e" in document.get_tier_names()
    assert praat.openTextgrid(str(paths[2]), True).getTier("person 1").entries[0].label.startswith("he said ")
    assert 'person 1: he said "<&>"' in paths[3].read_text() and "person 1: -> |" in paths[3].read_text()
    assert 'person 1: he said "&lt;&amp;&gt;"' in paths[4].read_text()
    assert len(list(otio.adapters.read_from_file(str(paths[5])).find_clips())) == 1
    assert len(ElementTree.parse(paths[8]).findall(".//keyword")) == 3


def test_media_is_linked_by_its_address(path: Path) -> None:
    found = collect_events(path, media="https://example.org/a/clip.mp4")
    assert (found.media_url, found.media_name) == ("https://example.org/a/clip.mp4", "clip.mp4")
    assert "RELATIVE_MEDIA_URL" not in write_events(found, path.parent, "eaf")[0].read_text()
    with pytest.raises(UsageError, match="media=nothing"):
        collect_events(path, media="nothing.mp4")


def test_bad_input_is_refused(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UsageError, match="`format=doc`: is unknown; choose from eaf, boris, textgrid, srt, vtt, otio, edl"
    ):
        write_events(path, tmp_path, "eaf,doc")
    with pytest.raises(UsageError, match="is unknown; choose from eaf"):
        write_events(path, tmp_path, "")
    with pytest.raises(UsageError, match="`label=bored`: is unknown; choose from angry, happy, neutral"):
        collect_events(path, labels=["bored"])
    with pytest.raises(UsageError, match="there is no drop-frame timecode at 25 frames per second"):
        collect_events(path, rate="25", drop_frame=True)
    with pytest.raises(DataError, match="does not exist"):
        collect_events(tmp_path / "none.records.csv")
    monkeypatch.setitem(__import__("sys").modules, "opentimelineio", None)
    with pytest.raises(MissingExtra, match="edit"):
        write_events(path, tmp_path, "otio")


def test_what_python_reads_gives_the_same_files(path: Path, tmp_path: Path) -> None:
    (first,), (second,) = (write_events(one, tmp_path / "a", "csv") for one in (path, mien.read_records(path)))
    assert first.name == second.name == "clip.events.csv"
    assert collect_events(mien.read_records(path)) == collect_events(path)


def test_events_are_collected_once_for_several_folders(path: Path, tmp_path: Path) -> None:
    found = collect_events(path)
    assert isinstance(found, ClipEvents)
    (written,) = write_events(found, tmp_path / "deep" / "er", "eaf")
    assert Elan.Eaf(str(written)).get_linked_files()[0]["RELATIVE_MEDIA_URL"] == "../../clip.mp4"
