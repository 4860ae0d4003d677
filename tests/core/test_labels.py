from __future__ import annotations

import pytest

from mien.core import labels


@pytest.mark.parametrize(
    ("name", "ours"),
    [("Anger", "angry"), ("angry", "angry"), ("HAPPINESS", "happy"), ("joy", "happy"), ("sadness", "sad"),
     ("Surprised", "surprise"), ("0_angry", "angry"), ("3-happy", "happy"), ("disgusted", "disgust"), ("NF", "not_a_face"),
     (" neutral ", "neutral"), ("Deeply Bored", "deeply_bored")],
)  # fmt: skip
def test_synonyms_become_our_words(name: str, ours: str) -> None:
    assert labels.normalize_label(name) == ours


def test_fer2013_order_is_the_published_one() -> None:
    assert labels.FER2013 == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def test_ferplus_columns_map_to_votes_one_to_one() -> None:
    assert tuple(labels.normalize_label(name) for name in labels.FERPLUS_COLUMNS) == labels.FERPLUS_VOTES


def test_ordered_lists_expressions_first_then_others_by_alphabet() -> None:
    assert labels.sort_labels(["zest", "sad", "awe", "angry", "sad"]) == ("angry", "sad", "awe", "zest")
