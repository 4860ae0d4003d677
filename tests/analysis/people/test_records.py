"""Records read back, and what they say of people."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.analysis.output.plots import sum_transitions, summarize_records, transition_rates
from mien.analysis.output.writers import make_records, record_columns, record_writer
from mien.analysis.people.people import PeopleAccumulator, observation_from_record
from mien.analysis.people.records import SINCE_3, Records, _estimate_durations_s, iterate_rows, read_clip, read_records
from mien.core.errors import DataError
from mien.core.types import Face, FrameResult

LABELS = ("sad", "happy", "neutral")
FORMATS = ("jsonl", "csv", "parquet")
STEP_S = 0.1


def face(label: int, track: int | None, rng: np.random.Generator) -> Face:
    raw, smoothed = rng.dirichlet(np.ones(3), 2).astype(np.float32)
    unsure_below, nothing = (0.6, float(rng.random())) if track is not None else (None, None)
    one = Face(
        (10.0, 20.0, 50.25, 60.5), None if label else 0.9, raw, LABELS, unsure_below=unsure_below, not_a_face=nothing
    )
    return one if track is None else replace(one, track=track, smoothed=smoothed, smoothed_label=LABELS[label])


def film(seed: int = 0, frames: int = 400) -> list[FrameResult]:
    """Two people whose labels change at random; the second is seen now and then, and nobody for two seconds."""
    rng, results, labels = np.random.default_rng(seed), [], [1, 2]
    for index in range(frames):
        labels = [int(rng.integers(3)) if rng.random() < 0.1 else label for label in labels]
        faces = [face(labels[0], 0, rng)] + ([face(labels[1], 4, rng)] if index % 100 < 60 else [])
        start_s, length_s = index * STEP_S, STEP_S * (1 + 0.1 * (index % 3 - 1))  # of a variable frame rate
        results.append(FrameResult("film.mp4", index, 5 + start_s, (640, 360), tuple(faces), start_s, length_s))
    return [one for one in results if not 200 <= one.frame < 220]


def write(results: list[FrameResult], stem: Path, formats: tuple[str, ...] = FORMATS) -> None:
    with record_writer(stem, formats, LABELS) as records:
        for result in results:
            records.write(make_records(result, "base", "yunet"))


@pytest.fixture
def records(tmp_path: Path) -> Records:
    write(film(), tmp_path / "film", ("jsonl",))
    return read_clip(tmp_path / "film.records.jsonl")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    results = film()
    write(results, tmp_path / "film", (name,))
    found = read_clip(tmp_path / f"film.records.{name}")
    faces = [(result, face) for result in results for face in result.faces]
    assert (found.source, found.model, found.detector, found.labels) == ("film.mp4", "base", "yunet", LABELS)
    assert found.frame.tolist() == [result.frame for result, _ in faces]
    assert found.track.tolist() == [face.track for _, face in faces]
    assert [found.labels[k] for k in found.shown] == [face.smoothed_label for _, face in faces]
    assert [found.labels[k] for k in found.raw_label] == [face.label for _, face in faces]
    assert found.unsure.tolist() == [face.is_unsure for _, face in faces]
    for name in ("time_s", "player_time_s", "duration_s"):
        np.testing.assert_allclose(getattr(found, name), [getattr(result, name) for result, _ in faces], atol=1e-6)
    np.testing.assert_allclose(found.not_a_face, [face.not_a_face for _, face in faces], atol=1e-4)
    np.testing.assert_allclose(found.valence, [face.valence for _, face in faces], atol=1e-6)
    np.testing.assert_allclose(found.boxes_xyxy, [face.box_xyxy for _, face in faces], atol=0.006)
    np.testing.assert_allclose(found.probabilities, [face.probabilities for _, face in faces], atol=1e-6)
    np.testing.assert_allclose(found.smoothed, [face.smoothed for _, face in faces], atol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_a_table_over_several_inputs_gives_each_its_own(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    photo = FrameResult("photo.jpg", 0, 0.0, (9, 9), (face(0, None, rng), face(1, None, rng)))
    write([*film()[:5], photo], tmp_path / "all", (name,))
    first, second = read_records(tmp_path / f"all.records.{name}")
    assert (first.source, second.source, len(second)) == ("film.mp4", "photo.jpg", 2)
    assert second.track.tolist() == [-1, -1]
    assert (second.smoothed == second.probabilities).all()
    assert second.shown.tolist() == second.probabilities.argmax(axis=1).tolist()
    with pytest.raises(DataError, match="holds records of 2 inputs; name the records of one of them"):
        read_clip(tmp_path / f"all.records.{name}")


@pytest.mark.parametrize("name", FORMATS)
def test_records_of_nobody(tmp_path: Path, name: str) -> None:
    write([], tmp_path / "film", (name,))
    assert read_records(tmp_path / f"film.records.{name}") == []
    with pytest.raises(DataError, match="no face was seen"):
        read_clip(tmp_path / f"film.records.{name}")


def test_what_is_not_records_is_told_with_its_place(tmp_path: Path) -> None:
    write(film()[:3], tmp_path / "film", ("jsonl", "csv"))
    lines = (tmp_path / "film.records.jsonl").read_text().splitlines()
    row = json.loads(lines[1])
    table = (tmp_path / "film.records.csv").read_text()
    wrong = {
        "a.jsonl": (json.dumps(row | {"time_s": "soon"}), "record 1 is damaged: time_s is 'soon'"),
        "b.jsonl": (f"{lines[0]}\n{json.dumps(row | {'s_label': 'bored'})}", "record 2 is damaged: s_label is 'bored'"),
        "c.jsonl": (f"{lines[0]}\n{lines[1][:40]}", "line 2 is not JSON"),
        "d.jsonl": ("[1]", "line 1 is no record"),
        "e.jsonl": (json.dumps({"p_happy": 1}), "is not records: there is no column source, frame, time_s, face"),
        "f.jsonl": (json.dumps(row | {"frame": 1.5}), "record 1 is damaged: frame is 1.5"),
        "h.jsonl": (json.dumps(row | {"track": 0.5}), "record 1 is damaged: track is 0.5"),
        "i.jsonl": (json.dumps(row | {"unsure": "perhaps"}), "record 1 is damaged: unsure is 'perhaps'"),
        "k.jsonl": (json.dumps(row | {"label": "bored"}), "record 1 is damaged: label is 'bored'"),
        "g.jsonl": (json.dumps(row | {"p_sad": None}), "record 1 is damaged: p_sad is None"),
        "a.csv": ("path,label\nx,happy\n", "is not records: there is no column"),
        "b.csv": (table.replace("film.mp4,", "", 1), "record 1 has 25 values for 26 columns"),
        "c.csv": ("", "is not records"),
        "a.parquet": ("PAR1", "is not a Parquet file that can be read"),
        "a.txt": ("", "is no file of records; name a file that an analysis wrote (.jsonl, .csv, .parquet)"),
    }
    for name, (text, message) in wrong.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError) as caught:
            read_records(tmp_path / name)
        assert message in str(caught.value), name
    (tmp_path / "h.csv").write_bytes(b"\xff\xfe\x00")
    for name, message in (("h.csv", "is not text"), ("i.csv", "does not exist"), (".", "is a folder")):
        with pytest.raises(DataError, match=message):
            read_records(tmp_path / name)


def live(results: list[FrameResult]) -> tuple[PeopleAccumulator, list]:
    """What the analysis gathers frame by frame, and its segments."""
    rows = [row for result in results for row in make_records(result, "base", "yunet")]
    people = PeopleAccumulator(LABELS)
    return people, people.segments(observation_from_record(row, LABELS) for row in rows)


@pytest.mark.parametrize("name", FORMATS)
def test_the_analysis_and_its_records_tell_the_same_of_people_segments_timeline_and_peaks(
    tmp_path: Path, name: str
) -> None:
    results = film(frames=1500)  # bins widen
    write(results, tmp_path / "film", (name,))
    records = read_clip(tmp_path / f"film.records.{name}")
    people, segments = live(results)
    again = records.people()
    assert again.to_json() == people.to_json()
    assert len(people.people) == 2 and people.peaks()
    assert records.segments() == segments
    assert (again.timeline.width_s, again.timeline.start_s, again.timeline.end_s) == (
        people.timeline.width_s, people.timeline.start_s, people.timeline.end_s)  # fmt: skip
    for track in (0, 4):
        for ours, theirs in zip(
            again.timeline.mean_probabilities(track), people.timeline.mean_probabilities(track), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    assert np.isnan(again.timeline.mean_probabilities(0)[1]).any()  # the two seconds without anybody


def test_records_in_another_order_tell_the_same(tmp_path: Path) -> None:
    write(film(), tmp_path / "film", ("jsonl",))
    lines = (tmp_path / "film.records.jsonl").read_text().splitlines(keepends=True)
    lines.sort(key=lambda line: (json.loads(line)["track"], -json.loads(line)["frame"]))
    (tmp_path / "sorted.records.jsonl").write_text("".join(lines))
    first, second = (read_clip(tmp_path / f"{name}.records.jsonl").people().to_json() for name in ("film", "sorted"))
    assert first == second


@pytest.mark.parametrize("name", ["jsonl", "csv"])
@pytest.mark.parametrize("start_s", [None, 5.0])
def test_records_of_schema_2_are_read(tmp_path: Path, name: str, start_s: float | None) -> None:
    """They have neither durations nor the player's time."""
    results = [replace(one, duration_s=STEP_S) for one in film()]
    write(results, tmp_path / "new", (name,))
    rows = [row for rows in iterate_rows(tmp_path / f"new.records.{name}") for row in rows]
    columns = [column for column in record_columns(LABELS) if column not in SINCE_3]
    with (tmp_path / f"old.records.{name}").open("w", newline="") as file:
        old = [{column: row[column] for column in columns} for row in rows]
        if name == "csv":
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(old)
        else:
            file.writelines(json.dumps(row) + "\n" for row in old)
    if start_s is not None:
        (tmp_path / "old.summary.json").write_text(json.dumps({"schema": 2, "begins_s": start_s}))
    records = read_clip(tmp_path / f"old.records.{name}")
    np.testing.assert_allclose(records.player_time_s, records.time_s - (start_s or 0))
    np.testing.assert_allclose(records.duration_s, STEP_S, atol=1e-5)
    ours, theirs = records.people(), live(results)[0]
    for one, other in zip(ours.people, theirs.people, strict=True):
        first, second = one.to_json(), other.to_json()
        assert {key: first[key] for key in ("track", "frames", "changes", "sure_share")} == {
            key: second[key] for key in ("track", "frames", "changes", "sure_share")
        }
        assert first["share"] == pytest.approx(second["share"], abs=1e-3)
        assert first["valence"] == pytest.approx(second["valence"], abs=1e-3)


def test_valence_is_happy_less_the_strongest_negative_expression() -> None:
    probabilities = np.array([0.1, 0.05, 0.25, 0.4, 0.15, 0.02, 0.03], np.float32)
    plain = Face(
        (0, 0, 1, 1), 0.9, probabilities, ("anger", "disgust", "fear", "happiness", "sad", "surprise", "neutral")
    )
    assert plain.valence == pytest.approx(0.15)
    with_contempt = replace(
        plain, labels=(*plain.labels[:5], "contempt", "neutral"), probabilities=probabilities[[0, 1, 2, 4, 3, 5, 6]]
    )
    assert with_contempt.valence == pytest.approx(0.15 - 0.4)
    assert replace(plain, labels=tuple("abcdefg")).valence is None
    (row,) = make_records(FrameResult("a.jpg", 0, 0.0, (9, 9), (plain,)), "base", "haar")
    assert (row["valence"], row["duration_s"], row["player_time_s"]) == (pytest.approx(0.15), None, 0.0)
    order = ["source", "frame", "time_s", "player_time_s", "duration_s", "face", "track", "x1"]
    assert list(row)[:8] == order
    assert list(row)[21:27] == ["unsure", "not_a_face", "valence", "model", "detector", "s_label"]
    assert list(row) == list(record_columns(plain.labels))


def test_transitions_count_segments(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shown = [1] * 10 + [0] * 1 + [1] * 30 + [2] * 5 + [1] * 2  # happy sad happy neutral happy
    other = [2] * 20 + [0] * 28
    results = [
        FrameResult("a.mp4", i, 3 + i * STEP_S, (9, 9), (face(other[i], 1, rng), face(shown[i], 0, rng)))
        for i in range(48)
    ]
    write(results, tmp_path / "a", ("csv",))
    records = read_clip(tmp_path / "a.records.csv")
    people = records.people()
    assert people.tracks[0].transitions.tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    assert people.tracks[1].transitions.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert [(one.label, round(one.start_s, 3), round(one.end_s, 3)) for one in records.segments() if one.track == 0] == [
        ("happy", 3.0, 4.0), ("sad", 4.0, 4.1), ("happy", 4.1, 7.1), ("neutral", 7.1, 7.6), ("happy", 7.6, 7.8)]  # fmt: skip
    values = summarize_records(records, people)
    assert values["transitions"]["all"]["counts"] == [[0, 1, 0], [1, 0, 1], [1, 1, 0]]
    assert values["transitions"]["all"]["rates"] == [[0, 1, 0], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    assert values["transitions"]["persons"][1]["rates"] == [None, None, [1, 0, 0]]
    assert values["transitions"]["all"]["changes_per_minute"] == pytest.approx(5 * 60 / 9.6, abs=1e-3)
    assert values["share"] == pytest.approx({"sad": 29 / 96, "happy": 42 / 96, "neutral": 25 / 96}, abs=1e-4)
    json.dumps(values)


def test_numbers_that_a_spreadsheet_made_of_tracks_are_read(tmp_path: Path) -> None:
    write(film()[:3], tmp_path / "a", ("csv",))
    rows = list(csv.DictReader((tmp_path / "a.records.csv").open(newline="")))
    with (tmp_path / "b.records.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"track": f"{row['track']}.0"} for row in rows)
    assert (read_clip(tmp_path / "b.records.csv").track == read_clip(tmp_path / "a.records.csv").track).all()


def test_a_person_seen_for_no_time_at_all_is_summed_up(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times = (0.0, 0.0003, 0.5)
    results = [FrameResult("a.mp4", i, t, (9, 9), (face(0, min(i, 1), rng),)) for i, t in enumerate(times)]
    write(results, tmp_path / "a", ("jsonl",))
    records = read_clip(tmp_path / "a.records.jsonl")
    values = summarize_records(records, records.people())
    seconds = {row["person"]: row["on_screen_s"] for row in values["people"]}
    assert seconds[1] == 0
    assert [one["changes_per_minute"] for one in values["transitions"]["persons"]] == [0, 0]


def test_the_chances_of_a_row_sum_to_one_and_nobody_changes_to_the_same(records: Records) -> None:
    people = records.people()
    counts = sum_transitions(people)
    assert np.trace(counts) == 0
    assert counts.sum() == sum(person.to_json()["changes"] for person in people.people)
    np.testing.assert_allclose(transition_rates(counts).sum(axis=1), 1)
    assert people.share.sum() == pytest.approx(1)
    assert people.mean.sum() == pytest.approx(1, abs=1e-5)


def test_without_durations_frames_last_until_the_next_and_no_longer_where_nobody_is_seen() -> None:
    times = np.array([0, 0, 0.1, 0.3, 0.4, 20])
    durations = _estimate_durations_s(times, np.array([0, 0, 1, 2, 3, 180]))
    np.testing.assert_allclose(durations, [0.1, 0.1, 0.2, 0.1, 0.15, 0.15])
    varying = _estimate_durations_s(
        times, np.array([0, 0, 1, 2, 3, 4])
    )  # no frame is between: slides, a recorded screen
    np.testing.assert_allclose(varying, [0.1, 0.1, 0.2, 0.1, 19.6, 0.15])
    assert _estimate_durations_s(times[:2], np.zeros(2, int)).tolist() == [0.04, 0.04]


@pytest.mark.parametrize("name", FORMATS)
def test_rows_come_back_with_their_types(tmp_path: Path, name: str) -> None:
    results = film()
    write(results, tmp_path / "film", (name,))
    written = [row for result in results for row in make_records(result, "base", "yunet")]
    assert [row for rows in iterate_rows(tmp_path / f"film.records.{name}", 100) for row in rows] == written
