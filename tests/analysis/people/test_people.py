"""Who was seen in a video: tracks, the table of people, captions, the timeline."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip
from PIL import Image

from mien.analysis.detection.detectors import Detections, largest
from mien.analysis.media.inputs import Input
from mien.analysis.people.people import Captions, Follower, People, clock
from mien.analysis.people.timeline import MOST_BINS, Timeline, draw_timeline
from mien.analysis.pipeline import Settings, analyze_input
from mien.analysis.recognizer import Recognizer
from mien.core.types import Face
from tests.conftest import yunet

LABELS = ("sad", "happy", "neutral")


def face(label: int, x: float = 0, sure: float = 0.8, track: int | None = None) -> Face:
    probabilities = np.full(3, (1 - sure) / 2, np.float32)
    probabilities[label] = sure
    plain = Face((x, 0.0, x + 50, 50.0), 0.9, probabilities, LABELS)
    return plain if track is None else replace(plain, track=track, smoothed=probabilities, steady=LABELS[label])


def test_following_gives_tracks_and_steady_labels() -> None:
    follower, shown = Follower(), []
    for index in range(40):
        label = 1 if index % 5 else 0  # every fifth answer is another one
        (followed,) = follower.follow([face(label, x=2 * index)], index / 10)
        assert (followed.track, followed.label) == (0, LABELS[label])  # what the network said stays as it is
        assert followed.smoothed.sum() == pytest.approx(1)
        shown.append(followed.shown[0])
    assert shown[3:] == ["happy"] * 37
    assert [one.track for one in follower.follow([face(1, x=80)], 4.0, was_cut=True)] == [1]
    assert follower.follow([], 4.1) == []


def test_the_table_of_people_by_hand() -> None:
    people = People(LABELS)
    for index in range(10):
        seen = [face(1 if index < 6 else 0, track=0)] + ([face(2, track=1)] if index in (2, 3) else [])
        people.see(seen, index / 2, 0.5)
    first, second = (person.to_json() for person in people.by_time())
    assert (first["person"], first["on_screen_s"], first["frames"], first["changes"]) == (1, 5.0, 10, 1)
    assert (first["first_s"], first["last_s"]) == (0.0, 5.0)
    assert first["share"] == {"sad": 0.4, "happy": 0.6, "neutral": 0.0}
    assert first["mean"] == {"sad": pytest.approx(0.4 * 0.8 + 0.6 * 0.1), "happy": pytest.approx(0.52), "neutral": 0.1}
    assert first["longest"] == {"happy": {"start_s": 0.0, "seconds": 3.0}, "sad": {"start_s": 3.0, "seconds": 2.0}}
    assert (second["track"], second["on_screen_s"], second["share"]["neutral"]) == (1, 1.0, 1.0)
    json.dumps([first, second])


def test_the_longest_spell_does_not_count_what_nobody_saw() -> None:
    people = People(LABELS)
    for time_s in (0.0, 0.1, 20.0, 20.1, 20.2):
        people.see([face(0, track=0)], time_s, 0.1)
    (person,) = people.by_time()
    told = person.to_json()
    assert (told["on_screen_s"], told["changes"]) == (0.5, 0)
    assert told["longest"][LABELS[0]] == {"start_s": 20.0, "seconds": pytest.approx(0.3)}


def test_captions_change_when_what_is_shown_changes() -> None:
    captions, text = Captions(), ""
    for index, faces in enumerate(
        [[], [face(1, track=0)], [face(1, track=0)], [face(0, track=1), face(1, track=0)], []]
    ):
        text += captions.see(faces, index * 0.5, 0.5)
    text += captions.see([face(2, track=2)], 2.5, 0.5) + captions.finish()
    assert text == (
        "\n00:00:00.500 --> 00:00:01.500\n1: happy\n\n00:00:01.500 --> 00:00:02.000\n1: happy\n2: sad\n"
        "\n00:00:02.500 --> 00:00:03.000\n3: neutral\n"
    )
    assert clock(3723.5) == "01:02:03.500"


def test_a_parser_reads_captions_whatever_the_labels_are_called(tmp_path: Path) -> None:
    labels = ("a --> b", "<i>c & d", "two\nlines")
    path = tmp_path / "clip.vtt"
    captions, text = Captions(), "WEBVTT\n"
    for index in range(6):
        one = replace(face(index % 3, track=0), labels=labels, steady=labels[index % 3])
        text += captions.see([one, face(0)], index / 2, 0.5)  # the second is nobody's track
    text += captions.see([replace(one, steady=labels[0])], 3.0, 0.0001)  # too short to be a cue
    path.write_text(text + captions.finish(), encoding="utf-8", newline="\n")
    with av.open(str(path)) as container:
        cues = [
            (packet.pts, packet.duration, cue) for packet in container.demux(subtitles=0) for cue in packet.decode()
        ]
    texts = ["1: a --> b", "1: <i>c & d", "1: two lines"] * 2
    assert [(start, length) for start, length, _ in cues] == [(500 * index, 500) for index in range(6)]
    assert [cue.dialogue.decode() for *_, cue in cues] == texts
    assert "\n\n\n" not in path.read_text() and path.read_text().count("-->") == 6
    assert clock(-0.2) == "00:00:00.000"


def test_the_timeline_keeps_means_while_its_bins_widen() -> None:
    timeline = Timeline(LABELS, width_s=0.1)
    seconds = 500.0
    for index in range(int(seconds * 10)):
        timeline.see([face(1 if index < 2500 else 0, track=7)], index / 10, 0.1)
    assert timeline.width_s == pytest.approx(0.8)  # 0.1, 0.2, 0.4: 1,200 bins of it are 480 s
    starts, means = timeline.of(7)
    assert len(timeline.bins[7]) <= MOST_BINS
    np.testing.assert_allclose(means[starts + 0.8 <= 250][:, 1], 0.8, atol=1e-6)
    np.testing.assert_allclose(means[(starts >= 250.4) & (starts < 499)][:, 0], 0.8, atol=1e-6)
    total = sum(row[-1] for row in timeline.bins[7].values())
    assert total == pytest.approx(seconds)


@pytest.mark.parametrize("fps", [0.5, 5, 10, 23.976, 60])
def test_a_person_who_is_always_seen_has_no_gap_at_any_frame_rate(fps: float) -> None:
    timeline, seconds = Timeline(LABELS), 150.0
    for index in range(int(seconds * fps)):
        if index == int(100 * fps):
            timeline.cut(index / fps)
        timeline.see([face(1, track=0)], index / fps, 1 / fps)
    means = timeline.of(0)[1]
    assert not np.isnan(means).any()
    np.testing.assert_allclose(means[:, 1], 0.8, atol=1e-5)
    assert sum(row[-1] for row in timeline.bins[0].values()) == pytest.approx(int(seconds * fps) / fps)
    (cut,) = timeline.cuts
    assert cut * timeline.width_s == pytest.approx(100, abs=timeline.width_s + 1 / fps)


def test_a_timeline_is_drawn_with_gaps_where_nobody_is_seen(tmp_path: Path) -> None:
    timeline = Timeline(LABELS)
    for index in range(100):
        timeline.see([face(1, track=0)] if index < 40 or index > 60 else [], index / 10, 0.1)
    assert np.isnan(timeline.of(0)[1][41:60]).all()
    draw_timeline(timeline, [0], tmp_path / "t.png", "clip")
    drawn = np.array(Image.open(tmp_path / "t.png").convert("RGB")).astype(int)
    yellow = np.abs(drawn - (0xE6, 0xB8, 0x00)).sum(axis=2) < 12  # the colour of happy
    columns = np.flatnonzero(yellow.any(axis=0))
    assert np.diff(columns).max() > 100
    draw_timeline(Timeline(LABELS), [], tmp_path / "empty.png", "clip")
    assert (tmp_path / "empty.png").is_file()


def test_the_largest_faces_are_kept() -> None:
    found = Detections(
        np.array([[0, 0, 10, 10], [0, 0, 30, 30], [0, 0, 20, 20]], np.float32), np.array([0.9, 0.8, 0.7])
    )
    assert largest(found, 2).scores.tolist() == [0.8, 0.7]
    assert largest(found, 0) is found


def test_a_video_gets_tracks_people_captions_and_a_timeline(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    make_clip(clip, seconds=2, size_wh=(320, 240), fps=Fraction(15))
    recognizer = Recognizer(detector="yunet", detector_model=yunet(), people=1)
    done = analyze_input(Input(clip, Path("clip")), recognizer, Settings(tmp_path / "out", quiet=True))
    with (tmp_path / "out" / "clip.records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["track"] for row in rows} == {"0"}
    assert {row["s_label"] for row in rows} == {"happy"}
    smoothed = np.array([[float(row[f"s_{name}"]) for name in recognizer.labels] for row in rows])
    np.testing.assert_allclose(smoothed.sum(axis=1), 1, atol=1e-5)
    (person,) = done.people
    assert person["frames"] == len(rows)
    assert person["share"]["happy"] == 1
    summary = json.loads((tmp_path / "out" / "clip.summary.json").read_text())
    assert (summary["schema"], summary["people"]) == (2, done.people)
    captions = (tmp_path / "out" / "clip.vtt").read_text()
    assert re.match(r"WEBVTT\n\n00:00:00.\d{3} --> 00:00:0[12].\d{3}\n1: happy\n", captions)
    assert (tmp_path / "out" / "clip.timeline.png").stat().st_size > 5_000
