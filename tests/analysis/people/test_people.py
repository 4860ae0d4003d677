"""Who was seen in a video: tracks, the table of people, captions, the timeline."""

from __future__ import annotations

import csv
import json
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip
from PIL import Image

from mien.analysis.detection.detectors import Detections, keep_largest
from mien.analysis.media.inputs import Input
from mien.analysis.output.captions import Captions, to_milliseconds
from mien.analysis.people.people import Observation, PeopleAccumulator
from mien.analysis.people.records import read_clip
from mien.analysis.people.timeline import MAX_BINS, Timeline, draw_timeline
from mien.analysis.pipeline import analyze_input
from mien.analysis.recognizer import Recognizer
from mien.analysis.settings import AnalysisContext
from mien.analysis.tracking.follower import Follower
from mien.core.types import Face
from tests.conftest import yunet

LABELS = ("sad", "happy", "neutral")


def face(label: int, x: float = 0, sure: float = 0.8) -> Face:
    probabilities = np.full(3, (1 - sure) / 2, np.float32)
    probabilities[label] = sure
    return Face((x, 0.0, x + 50, 50.0), 0.9, probabilities, LABELS)


def test_following_gives_tracks_and_steady_labels() -> None:
    follower, shown = Follower(), []
    for index in range(40):
        label = 1 if index % 5 else 0  # every fifth answer is another one
        (followed,) = follower.follow_faces([face(label, x=2 * index)], index / 10)
        assert (followed.track, followed.label) == (0, LABELS[label])  # what the network said stays as it is
        assert followed.smoothed.sum() == pytest.approx(1)
        shown.append(followed.display_label)
    assert shown[3:] == ["happy"] * 37
    assert [one.track for one in follower.follow_faces([face(1, x=80)], 4.0, was_cut=True)] == [1]
    assert follower.follow_faces([], 4.1) == []


def seen(
    label: int,
    time_s: float,
    seconds: float,
    track: int = 0,
    *,
    sure: float = 0.8,
    unsure: bool | None = None,
    **values: float,
) -> Observation:
    """A face of a frame that comes at ten a second."""
    probabilities = np.full(3, (1 - sure) / 2, np.float32)
    probabilities[label] = sure
    frame, box = round(time_s * 10), (0.0, 0.0, 9.0, 9.0)
    rest = (values.get("not_a_face"), values.get("valence"))
    return Observation(frame, time_s, time_s, seconds, track, label, label, probabilities, box, unsure, *rest)


def test_the_table_of_people_by_hand() -> None:
    people = PeopleAccumulator(LABELS)
    for index in range(10):
        people.update(seen(1 if index < 6 else 0, index / 2, 0.5))
        if index in (2, 3):
            people.update(seen(2, index / 2, 0.5, track=1))
    first, second = (person.to_json() for person in people.people)
    assert (first["person"], first["on_screen_s"], first["frames"], first["changes"]) == (1, 5.0, 10, 1)
    assert (first["first_s"], first["last_s"]) == (0.0, 5.0)
    assert first["share"] == {"sad": 0.4, "happy": 0.6, "neutral": 0.0}
    assert first["mean"] == {"sad": pytest.approx(0.4 * 0.8 + 0.6 * 0.1), "happy": pytest.approx(0.52), "neutral": 0.1}
    assert first["longest"] == {"happy": {"start_s": 0.0, "seconds": 3.0}, "sad": {"start_s": 3.0, "seconds": 2.0}}
    assert (first["sure_share"], first["mostly_unsure"], first["not_a_face"], first["valence"]) == (
        None,
        False,
        False,
        None,
    )
    assert (second["track"], second["on_screen_s"], second["share"]["neutral"]) == (1, 1.0, 1.0)
    json.dumps(people.to_json())


def test_the_longest_segment_does_not_count_what_nobody_saw() -> None:
    people = PeopleAccumulator(LABELS)
    segments = people.segments(seen(0, time_s, 0.1) for time_s in (0.0, 0.1, 20.0, 20.1, 20.2))
    assert [(one.label, one.start_s, round(one.end_s, 3)) for one in segments] == [
        ("sad", 0.0, 0.2),
        ("sad", 20.0, 20.3),
    ]
    told = people.people[0].to_json()
    assert (told["on_screen_s"], told["changes"]) == (0.5, 0)
    assert told["longest"][LABELS[0]] == {"start_s": 20.0, "seconds": pytest.approx(0.3)}


def test_who_is_unsure_most_of_the_time_is_said_to_be() -> None:
    people = PeopleAccumulator(LABELS)
    for index in range(10):
        people.update(seen(0, index / 10, 0.1, unsure=index < 6))
        people.update(seen(1, index / 10, 0.1, track=1, unsure=index < 5))
    unsure, half = people.people
    assert (unsure.to_json()["sure_share"], unsure.to_json()["mostly_unsure"]) == (0.4, True)
    assert (half.to_json()["sure_share"], half.to_json()["mostly_unsure"]) == (0.5, False)
    told = people.to_json()
    assert (told["sure_share"], told["mostly_unsure"]) == (0.45, True)
    assert people.timeline.mean_probabilities(0)[2].round(3).tolist() == [1] * 6 + [0] * 4  # bin by bin
    assert people.names == {0: "person 1\n(mostly unsure)", 1: "person 2"}


def test_a_track_that_is_no_face_is_listed_apart_and_counted_nowhere() -> None:
    people = PeopleAccumulator(LABELS)
    for index in range(
        10
    ):  # a jacket, which is a face for one frame, and somebody whose face is not seen well now and then
        people.update(seen(0, index, 1.0, track=3, not_a_face=0.1 if index == 4 else 0.99, sure=0.9))
        people.update(seen(1, index, 1.0, track=5, not_a_face=0.99 if index > 6 else 0.01))
    told = people.to_json()
    assert [person["track"] for person in told["people"]] == [5]
    (jacket,) = told["not_faces"]
    assert (jacket["person"], jacket["not_a_face"], jacket["not_a_face_score"]) == (4, True, 0.901)
    assert told["share"] == {"sad": 0, "happy": 1, "neutral": 0}
    assert people.raw_labels == {"sad": 0, "happy": 10, "neutral": 0}
    assert {peak["track"] for peak in told["peaks"]} == {5}
    assert list(people.names) == [5]
    again = PeopleAccumulator(LABELS)
    assert {one.track for one in again.segments([seen(0, 0, 1, 3, not_a_face=0.9), seen(1, 0, 1, 5)])} == {5}


def test_valence_is_its_mean_over_time() -> None:
    people = PeopleAccumulator(LABELS)
    people.update_all([seen(0, 0.0, 3.0, valence=-0.8), seen(1, 3.0, 1.0, valence=0.4)])
    assert people.people[0].to_json()["valence"] == pytest.approx((3 * -0.8 + 0.4) / 4)


def cues(observations: list[Observation], labels: tuple[str, ...] = LABELS, **options: object) -> str:
    captions = Captions(labels, **options)
    return "".join(cue for one in observations for cue in captions.update(one)) + "".join(captions.finish())


def test_captions_change_when_what_is_shown_changes() -> None:
    frames = [
        [seen(1, 0.5, 0.5)],
        [seen(1, 1.0, 0.5)],
        [seen(0, 1.5, 0.5, 1), seen(1, 1.5, 0.5)],
        [seen(2, 2.5, 0.5, 2)],
    ]
    assert cues([one for frame in frames for one in frame]) == (
        "\n00:00:00.500 --> 00:00:01.500\n1: happy\n\n00:00:01.500 --> 00:00:02.000\n1: happy\n2: sad\n"
        "\n00:00:02.500 --> 00:00:03.000\n3: neutral\n"
    )


def test_captions_say_what_is_unsure_and_leave_out_what_is_no_face() -> None:
    unsure = [seen(0, index / 10, 0.1, unsure=index != 3) for index in range(10)]
    jacket = [seen(1, index / 10, 0.1, track=4) for index in range(10)]
    both = [one for pair in zip(unsure, jacket, strict=True) for one in pair]
    assert cues(both, hidden=frozenset([4])) == "\n00:00:00.000 --> 00:00:01.000\n1: sad?\n"
    assert cues([one._replace(player_time_s=one.player_time_s + 60) for one in unsure], offset_s=60) == (
        "\n00:00:00.000 --> 00:00:01.000\n1: sad?\n"
    )


def test_a_parser_reads_captions_whatever_the_labels_are_called(tmp_path: Path) -> None:
    labels = ("a --> b", "<i>c & d", "two\nlines")
    path = tmp_path / "clip.vtt"
    frames = [seen(index % 3, index / 2, 0.5) for index in range(6)]
    frames.append(seen(0, 3.0, 0.0001))  # too short to be a cue
    path.write_text("WEBVTT\n" + cues(frames, labels), encoding="utf-8", newline="\n")
    with av.open(str(path)) as container:
        found = [
            (packet.pts, packet.duration, cue) for packet in container.demux(subtitles=0) for cue in packet.decode()
        ]
    texts = ["1: a --> b", "1: <i>c & d", "1: two lines"] * 2
    assert [(start, length) for start, length, _ in found] == [(500 * index, 500) for index in range(6)]
    assert [cue.dialogue.decode() for *_, cue in found] == texts
    assert "\n\n\n" not in path.read_text() and path.read_text().count("-->") == 6
    assert to_milliseconds(-0.2) == 0


def test_the_timeline_keeps_means_while_its_bins_widen() -> None:
    timeline = Timeline(LABELS, width_s=0.1)
    seconds, begins = 500.0, 30.0
    for index in range(int(seconds * 10)):
        one = seen(1 if index < 2500 else 0, begins + index / 10, 0.1)
        timeline.update(7, one.probabilities, one.time_s, 0.1)
    assert timeline.width_s == pytest.approx(0.8)  # 0.1, 0.2, 0.4: 1,200 bins of it are 480 s
    starts, means, _ = timeline.mean_probabilities(7)
    assert starts[0] == begins  # what comes before anybody is seen takes no bins
    starts = starts - begins
    assert len(timeline.bins[7]) <= MAX_BINS
    np.testing.assert_allclose(means[starts + 0.8 <= 250][:, 1], 0.8, atol=1e-6)
    np.testing.assert_allclose(means[(starts >= 250.4) & (starts < 499)][:, 0], 0.8, atol=1e-6)
    total = sum(row[-2] for row in timeline.bins[7].values())
    assert total == pytest.approx(seconds)


@pytest.mark.parametrize("fps", [0.5, 5, 10, 23.976, 60])
def test_a_person_who_is_always_seen_has_no_gap_at_any_frame_rate(fps: float) -> None:
    timeline, seconds = Timeline(LABELS), 150.0
    for index in range(int(seconds * fps)):
        if index == int(100 * fps):
            timeline.add_cut(index / fps)
        timeline.update(0, seen(1, 0, 0).probabilities, index / fps, 1 / fps)
    means = timeline.mean_probabilities(0)[1]
    assert not np.isnan(means).any()
    np.testing.assert_allclose(means[:, 1], 0.8, atol=1e-5)
    assert sum(row[-2] for row in timeline.bins[0].values()) == pytest.approx(int(seconds * fps) / fps)
    (cut,) = timeline.cut_times_s()
    assert cut == pytest.approx(100, abs=timeline.width_s + 1 / fps)


def test_a_timeline_is_drawn_with_gaps_where_nobody_is_seen(tmp_path: Path) -> None:
    timeline = Timeline(LABELS)
    for index in range(100):
        if index < 40 or index > 60:
            timeline.update(0, seen(1, 0, 0).probabilities, index / 10, 0.1, index > 80)
    assert np.isnan(timeline.mean_probabilities(0)[1][41:60]).all()
    draw_timeline(timeline, {0: "person 1"}, tmp_path / "t.png", "clip")
    drawn = np.array(Image.open(tmp_path / "t.png").convert("RGB")).astype(int)
    yellow = np.abs(drawn - (0xE6, 0xB8, 0x00)).sum(axis=2) < 12  # the color of happy
    columns = np.flatnonzero(yellow.any(axis=0))
    assert np.diff(columns).max() > 100
    pale = np.abs(drawn - (255 - 0.4 * (255 - np.array([0xE6, 0xB8, 0x00])))).sum(axis=2) < 12
    assert (
        np.flatnonzero(pale.any(axis=0)).min() > columns[columns < 1190].max()
    )  # beside the legend; the last two seconds are unsure
    draw_timeline(Timeline(LABELS), {}, tmp_path / "empty.png", "clip")
    assert (tmp_path / "empty.png").is_file()


def test_the_largest_faces_are_kept() -> None:
    found = Detections(
        np.array([[0, 0, 10, 10], [0, 0, 30, 30], [0, 0, 20, 20]], np.float32), np.array([0.9, 0.8, 0.7])
    )
    assert keep_largest(found, 2).scores.tolist() == [0.8, 0.7]
    assert keep_largest(found, 0) is found


def test_a_video_gets_tracks_people_captions_and_a_timeline(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    make_clip(clip, seconds=2, size_wh=(320, 240), fps=Fraction(15))
    recognizer = Recognizer(detector="yunet", detector_model=yunet(), people=1)
    done = analyze_input(Input(clip, Path("clip")), recognizer, AnalysisContext(tmp_path / "out", quiet=True))
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
    assert (summary["schema"], summary["people"]) == (3, done.people)
    again = read_clip(tmp_path / "out" / "clip.records.csv").people()
    assert again.to_json() == done.totals  # also the peaks
    captions = (tmp_path / "out" / "clip.vtt").read_text()
    assert re.match(r"WEBVTT\n\n00:00:00.\d{3} --> 00:00:0[12].\d{3}\n1: happy\n", captions)
    assert (tmp_path / "out" / "clip.timeline.png").stat().st_size > 5_000
