"""Label orders, and how the names of other data sets map to ours. No other file lists expressions."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

#: FER2013's order: the number in the file is the index here (Goodfellow et al., 2013).
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

#: FER+'s order of expressions (Barsoum et al., 2016), in our words.
FERPLUS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")

#: The ten vote columns of FER+: its expressions, then "unknown" and "not a face".
FERPLUS_VOTES = (*FERPLUS, "unknown", "not_a_face")

#: Column heads of the FER+ file, in the order of FERPLUS_VOTES.
FERPLUS_COLUMNS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)

#: The order in which the classes of a data set without an order of its own are listed.
CANONICAL = (*FER2013, "contempt")

#: Expressions that make a face look unpleasant: what valence is measured against.
NEGATIVE = ("angry", "disgust", "fear", "sad", "contempt")

_SYNONYMS = {
    "angry": ("anger", "ang", "an", "mad"),
    "disgust": ("disgusted", "disgusting", "dis", "di"),
    "fear": ("fearful", "afraid", "scared", "fea", "fe"),
    "happy": ("happiness", "joy", "joyful", "smile", "hap", "ha"),
    "sad": ("sadness", "unhappy", "sa"),
    "surprise": ("surprised", "suprise", "sur", "su"),
    "neutral": ("neutrality", "calm", "normal", "neu", "ne"),
    "contempt": ("contemptuous", "con"),
    "not_a_face": ("nf", "not_face", "notface", "non_face", "nonface"),
}
_LABEL_OF_SYNONYM = {name: ours for ours, names in _SYNONYMS.items() for name in (ours, *names)}


def normalize_label(name: str) -> str:
    """Our word for a class name of any data set: ``"Happiness"`` → ``"happy"``; an unknown name only loses its case.

    Blanks and hyphens become underscores, letters with accents are one letter each (macOS writes two), and a leading number as in ``0_angry`` or ``3-happy`` is dropped.
    """
    word = unicodedata.normalize("NFC", name).strip().lower().replace("-", "_").replace(" ", "_")
    unnumbered = word.lstrip("0123456789").lstrip("_.")
    return _LABEL_OF_SYNONYM.get(word) or _LABEL_OF_SYNONYM.get(unnumbered) or word


def is_expression(name: str) -> bool:
    """Whether the name, or a synonym of it, is one of the expressions in CANONICAL."""
    return normalize_label(name) in CANONICAL


def sort_labels(names: Iterable[str]) -> tuple[str, ...]:
    """Class names without repeats: known expressions in the order of CANONICAL, then all others by alphabet."""
    found = set(names)
    return (*(name for name in CANONICAL if name in found), *sorted(found - set(CANONICAL)))
