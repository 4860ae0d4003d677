"""Records read back, and what they say of people."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.analysis.output.writers import record_writer, records_of
from mien.analysis.people.people import People
from mien.analysis.people.records import Records, read_clip, read_records, rows_of
from mien.analysis.people.segments import (
    people_of,
    rates,
    shares,
    spells,
    summary_of,
    timeline_of,
    tracks_by_time,
    transitions,
)
from mien.analysis.people.timeline import Timeline
from mien.core.errors import DataError
from mien.core.types import Face, FrameResult

LABELS = ("sad", "happy", "neutral")
FORMATS = ("jsonl", "csv", "parquet")
STEP_S = 0.1


def face(label: int, track: int | None, rng: np.random.Generator) -> Face:
    raw, smoothed = rng.dirichlet(np.ones(3), 2).astype(np.float32)
    one = Face((10.0, 20.0, 50.25, 60.5), None if label else 0.9, raw, LABELS)
    return one if track is None else replace(one, track=track, smoothed=smoothed, steady=LABELS[label])


def film(seed: int = 0, frames: int = 400) -> list[FrameResult]:
    """Two people whose labels change at random; the second is seen now and then, and nobody for two seconds."""
    rng, results, labels = np.random.default_rng(seed), [], [1, 2]
    for index in range(frames):
        labels = [int(rng.integers(3)) if rng.random() < 0.1 else label for label in labels]
        faces = [face(labels[0], 0, rng)] + ([face(labels[1], 4, rng)] if index % 100 < 60 else [])
        results.append(FrameResult("film.mp4", index, index * STEP_S, (640, 360), tuple(faces)))
    return [one for one in results if not 200 <= one.frame < 220]


def write(results: list[FrameResult], stem: Path, formats: tuple[str, ...] = FORMATS) -> None:
    with record_writer(stem, formats, LABELS) as records:
        for result in results:
            records.write(records_of(result, "base", "yunet"))


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
    assert [found.labels[k] for k in found.shown] == [face.steady for _, face in faces]
    np.testing.assert_allclose(found.time_s, [result.time_s for result, _ in faces], atol=1e-6)
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
        "g.jsonl": (json.dumps(row | {"p_sad": None}), "record 1 is damaged: p_sad is None"),
        "a.csv": ("path,label\nx,happy\n", "is not records: there is no column"),
        "b.csv": (table.replace("film.mp4,", "", 1), "record 1 has 22 values for 23 columns"),
        "c.csv": ("", "is not records"),
        "a.parquet": ("PAR1", "is not a Parquet file that can be read"),
        "a.txt": ("", "is no file of records; name one that 'mien analyze' wrote (.jsonl, .csv, .parquet)"),
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


def test_people_are_those_of_the_analysis(records: Records) -> None:
    """The table and the timeline from records equal those that were gathered frame by frame."""
    people, timeline = People(LABELS), Timeline(LABELS)
    for result in film():
        people.see(result.faces, result.time_s, STEP_S)
        timeline.see(result.faces, result.time_s, STEP_S)
    for ours, theirs in zip(people_of(records), (one.to_json() for one in people.by_time()), strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"longest"}:
            assert ours[name] == pytest.approx(theirs[name], abs=2e-3)
        assert {k: v["seconds"] for k, v in ours["longest"].items()} == pytest.approx(
            {k: v["seconds"] for k, v in theirs["longest"].items()}, abs=2e-3
        )
    again = timeline_of(records)
    assert (again.width_s, again.end_s) == (timeline.width_s, pytest.approx(timeline.end_s))
    for track in (0, 4):
        np.testing.assert_allclose(again.of(track)[1], timeline.of(track)[1], atol=1e-5)


@pytest.mark.parametrize("fps", [2, 23.976, 60])
def test_the_timeline_is_the_same_at_any_frame_rate(tmp_path: Path, fps: float) -> None:
    timeline, rng = Timeline(LABELS), np.random.default_rng(0)
    results = [FrameResult("a", i, i / fps, (9, 9), (face(1, i // 90, rng),)) for i in range(300)]
    for one in results:
        timeline.see(one.faces, one.time_s, 1 / fps)
    write(results, tmp_path / "a", ("csv",))
    again = timeline_of(read_clip(tmp_path / "a.records.csv"))
    assert again.width_s == timeline.width_s
    for track in range(4):
        np.testing.assert_allclose(again.of(track)[1], timeline.of(track)[1], atol=1e-4)


def test_transitions_count_spells(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shown = [1] * 10 + [0] * 1 + [1] * 30 + [2] * 5 + [1] * 2  # happy sad happy neutral happy
    other = [2] * 20 + [0] * 28
    results = [
        FrameResult("a.mp4", i, 3 + i * STEP_S, (9, 9), (face(other[i], 1, rng), face(shown[i], 0, rng)))
        for i in range(48)
    ]
    write(results, tmp_path / "a", ("csv",))
    records = read_clip(tmp_path / "a.records.csv")
    assert transitions(records, 0).tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    assert transitions(records, 1).tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert [(one.label, round(one.start_s, 3), round(one.end_s, 3)) for one in spells(records, 0)] == [
        (1, 3.0, 4.0), (0, 4.0, 4.1), (1, 4.1, 7.1), (2, 7.1, 7.6), (1, 7.6, 7.8)]  # fmt: skip
    values = summary_of(records)
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
    values = summary_of(read_clip(tmp_path / "a.records.jsonl"))
    seconds = {row["person"]: row["on_screen_s"] for row in values["people"]}
    assert seconds[1] == 0
    assert [one["changes_per_minute"] for one in values["transitions"]["persons"]] == [0, 0]


def test_the_chances_of_a_row_sum_to_one_and_nobody_changes_to_the_same(records: Records) -> None:
    counts = sum(transitions(records, track) for track in tracks_by_time(records))
    assert np.trace(counts) == 0
    assert counts.sum() == sum(row["changes"] for row in people_of(records))
    np.testing.assert_allclose(rates(counts).sum(axis=1), 1)
    assert shares(records)[0].sum() == pytest.approx(1)
    assert shares(records)[1].sum() == pytest.approx(1, abs=1e-5)


def test_frames_last_until_the_next_and_no_longer_where_nobody_is_seen(records: Records) -> None:
    lengths = records.durations_s
    np.testing.assert_allclose(lengths, STEP_S, atol=1e-5)  # also before the two seconds without a face
    wavering = replace(records, **{
        name: getattr(records, name)[:6] for name in ("frame", "time_s", "track", "boxes_xyxy", "probabilities", "smoothed", "shown")
    })  # fmt: skip
    wavering.time_s[:], wavering.frame[:] = [0, 0, 0.1, 0.3, 0.4, 9], [0, 0, 1, 2, 3, 80]
    np.testing.assert_allclose(wavering.durations_s, [0.1, 0.1, 0.2, 0.1, 0.15, 0.15])
    varying = replace(wavering, frame=np.array([0, 0, 1, 2, 3, 4]))  # no frame is between
    np.testing.assert_allclose(varying.durations_s, [0.1, 0.1, 0.2, 0.1, 8.6, 0.15])


@pytest.mark.parametrize("name", FORMATS)
def test_rows_come_back_with_their_types(tmp_path: Path, name: str) -> None:
    results = film()
    write(results, tmp_path / "film", (name,))
    written = [row for result in results for row in records_of(result, "base", "yunet")]
    assert [row for rows in rows_of(tmp_path / f"film.records.{name}", 100) for row in rows] == written
