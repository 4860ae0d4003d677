"""Footage with known truth: nobody is lost, nobody is taken for another; and how that is counted."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import people
import pytest
from clips import ASTRONAUT

from mien.analysis.recognizer import Recognizer
from mien.analysis.tracking.follower import Follower
from tests.conftest import yunet

WALKING = people.SCENES["walking"]
CUTS = replace(people.SCENES["cut"], ground=lambda time_s: int(time_s // 1.5) % 2)


@pytest.mark.parametrize("detector", ["haar", "yunet"])
@pytest.mark.parametrize(("scene", "seconds"), [(WALKING, 3), (CUTS, 4)], ids=["walking", "cuts"])
def test_two_people_keep_their_numbers(scene: people.Scene, seconds: float, detector: str) -> None:
    file = yunet() if detector == "yunet" else None
    recognizer = Recognizer("base", detector=detector, detector_model=file)
    follower, truth, found = Follower(), [], []
    finder = recognizer.make_face_finder()
    every = 2  # fifteen frames a second do
    for index, (picture, there) in enumerate(
        people.render_frames(scene, seconds, people.make_actors([ASTRONAUT]), every)
    ):
        time_s = every * index / people.FPS
        faces = recognizer.classify_faces([picture], [finder.find_faces(picture, time_s)])[0]
        followed = follower.follow_faces(faces, time_s, finder.was_cut, picture)
        truth.append(there)
        found.append([(face.track, np.array(face.box_xyxy)) for face in followed])
    result = people.count_errors(truth, found)
    assert (result.switches, result.numbers) == (0, 2)
    assert detector == "haar" or result.mota > 0.97  # Haar does not see the darker face all the time
    assert finder.search_count < 0.5 * len(truth)


def test_what_is_missed_false_or_switched_is_counted_by_hand() -> None:
    box, other = np.array([0.0, 0, 10, 10]), np.array([50.0, 0, 60, 10])
    truth = [[(0, box, 1.0), (1, other, 1.0)]] * 3 + [[(0, box, 0.5)]]
    found = [
        [(7, box), (8, other)],
        [(7, box)],  # one missed
        [(8, box), (7, other), (9, np.array([90.0, 90, 99, 99]))],  # both switched, one false
        [(8, box)],  # half hidden: may be found
    ]
    result = people.count_errors(truth, found)
    assert (result.truths, result.missed, result.false, result.switches, result.numbers) == (6, 1, 1, 2, 3)
    assert result.mota == pytest.approx(1 - 4 / 6)


def test_a_still_face_before_a_moving_ground_is_one_person_however_sparsely_it_is_sampled() -> None:
    """At one frame in 0.3 s the picture changes altogether each time, as at a cut."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 256, (20, 60, 3), np.uint8), (3400, 480), interpolation=cv2.INTER_CUBIC)
    (actor, _), recognizer = people.make_actors([ASTRONAUT]), Recognizer("base", detector="haar", people=1)
    finder, follower, numbers, changes, cuts = recognizer.make_face_finder(), Follower(), set(), 0, 0
    for index in range(16):
        picture, time_s = ground[:, 180 * index : 180 * index + 640].copy(), 0.3 * index
        people._paste_actor(picture, actor, 320, 240, 180)
        faces = recognizer.classify_faces([picture], [finder.find_faces(picture, time_s)])[0]
        numbers |= {face.track for face in follower.follow_faces(faces, time_s, finder.was_cut, picture)}
        changes, cuts = changes + finder.was_cut, cuts + follower.was_cut
    assert numbers == {0}
    assert changes > 3 and cuts == 0
