from __future__ import annotations

import itertools

import pytest

from mien.service.jobs.overlay import make_overlay, thin_frames

LABELS = ["happy", "sad"]
SUMMARY = {"width": 64, "height": 48, "seconds": 9.0, "frames": 100, "people": []}


def row(frame: int, time_s: float, track: int = 0, happy: float = 0.9) -> dict[str, object]:
    return {
        "frame": frame, "time_s": time_s, "track": track, "x1": 1.26, "y1": 2.0, "x2": 3.0, "y2": 4.0,
        "label": "sad", "p_happy": 0.1, "p_sad": 0.9, "s_label": "happy", "s_happy": happy, "s_sad": 1 - happy,
    }  # fmt: skip


def row_3(frame: int, player_time_s: float, duration_s: float) -> dict[str, object]:
    """Of schema 3."""
    return row(frame, player_time_s + 7) | {"player_time_s": player_time_s, "duration_s": duration_s}


def facts(start_s: float = 0.0) -> dict[str, object]:
    return {"labels": LABELS, "start_s": start_s, "seconds": 10.0}


def test_faces_are_the_smoothed_ones_in_few_digits() -> None:
    records = [row(0, 5.0), row(0, 5.0, track=3, happy=0.12345), row(1, 5.04)]
    made = make_overlay(records, SUMMARY | {"frames": 2}, facts(start_s=5.0), 25)
    assert (made["width"], made["height"], made["seconds"], made["labels"]) == (64, 48, 9.0, LABELS)
    assert made["times"] == [0.0, 0.04]  # of the annotated video, which begins at 0
    assert made["start_s"] == 5.0  # for players that count by the file's own timestamps
    assert made["faces"][0] == [
        [0, 1.3, 2.0, 3.0, 4.0, 0, [0.9, 0.1], None],
        [3, 1.3, 2.0, 3.0, 4.0, 0, [0.123, 0.877], None],
    ]
    assert len(made["faces"][1]) == 1


def test_no_box_outlives_its_face() -> None:
    """Seen in frames 10 to 12 and 20 of 100: after 12 and after 20 nobody is there."""
    records = [row(number, number * 0.04) for number in (10, 11, 12, 20)]
    made = make_overlay(records, SUMMARY, facts(), 25)
    shown = dict(zip(made["times"], map(len, made["faces"]), strict=True))
    assert shown == pytest.approx({0.4: 1, 0.44: 1, 0.48: 1, 0.52: 0, 0.8: 1, 0.84: 0})


def test_frames_last_as_long_as_they_say() -> None:
    """Slides: frame 1 is shown for 5 s, after frame 3 nobody is there for 2 s."""
    records = [row_3(0, 0.0, 1.0), row_3(1, 1.0, 5.0), row_3(3, 8.0, 0.5), row_3(5, 10.5, 1.0)]
    made = make_overlay(records, SUMMARY | {"frames": 6}, facts(start_s=7.0), 25)
    assert made["times"] == [0, 1, 6, 8, 8.5, 10.5]
    assert [len(faces) for faces in made["faces"]] == [1, 1, 0, 1, 0, 1]


def test_a_face_to_the_very_end_stays() -> None:
    made = make_overlay([row(98, 3.92), row(99, 3.96)], SUMMARY, facts(), 25)
    assert [len(faces) for faces in made["faces"]] == [1, 1]


@pytest.mark.parametrize("fps", [1, 5, 10, 24])
@pytest.mark.parametrize("rate", [24.0, 29.97, 60.0])
def test_thinning_keeps_about_so_many_a_second(fps: int, rate: float) -> None:
    frames = [(number / rate, [{}]) for number in range(int(rate * 20))]
    kept = [time_s for time_s, _ in thin_frames(frames, 1 / fps)]
    assert len(kept) == pytest.approx(min(fps, rate) * 20, rel=0.35)
    assert len(kept) <= fps * 20 * 1.05 + 1
    steps = [b - a for a, b in itertools.pairwise(kept)]
    assert max(steps) <= 1 / fps + 1.01 / rate


def test_the_timeline_holds_all_records_of_the_people() -> None:
    """Track 0 is sure for 0.2 s, track 4 unsure for 0.1 s; track 5 is no person of the summary."""
    records = [row_3(0, 0.0, 0.1), row_3(1, 0.1, 0.1), row_3(1, 0.1, 0.1) | {"track": 4, "unsure": True},
               row_3(2, 0.2, 0.1) | {"track": 5}]  # fmt: skip
    people = [{"track": 0}, {"track": 4}]
    timeline = make_overlay(records, SUMMARY | {"people": people}, facts(), 1)["timeline"]
    assert (timeline["labels"], timeline["start_s"], timeline["width_s"], timeline["cuts_s"]) == (LABELS, 0, 0.1, [])
    assert timeline["persons"] == [
        {"person": 1, "track": 0, "runs": [(0, [900, 100, 900, 100], [0, 0])]},
        {"person": 5, "track": 4, "runs": [(1, [900, 100], [1])]},
    ]


def test_nothing_seen_gives_nothing() -> None:
    made = make_overlay([], SUMMARY, facts(), 10)
    assert (made["times"], made["faces"]) == ([], [])
