"""Label orders, and the synonyms of other data sets. No other module lists expressions."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

#: The order of FER2013: the number in the file is the index (Goodfellow et al., 2013).
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

#: The order of FER+ (Barsoum et al., 2016), with mien's names.
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

#: Negative expressions, which lower the valence.
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
    """Return mien's name of a class of any data set: ``"Happiness"`` → ``"happy"``.

    An unknown name is only changed to lower case. Blanks and hyphens become underscores. Letters with accents are
    composed (macOS decomposes them). A leading number is removed, as in ``0_angry`` or ``3-happy``.
    """
    word = unicodedata.normalize("NFC", name).strip().lower().replace("-", "_").replace(" ", "_")
    unnumbered = word.lstrip("0123456789").lstrip("_.")
    return _LABEL_OF_SYNONYM.get(word) or _LABEL_OF_SYNONYM.get(unnumbered) or word


def is_expression(name: str) -> bool:
    """Return whether a name, or a synonym of it, is an expression of CANONICAL."""
    return normalize_label(name) in CANONICAL


def sort_labels(names: Iterable[str]) -> tuple[str, ...]:
    """Return distinct class names: known expressions in the order of CANONICAL, then the others in alphabetical order."""
    present = set(names)
    return (*(name for name in CANONICAL if name in present), *sorted(present - set(CANONICAL)))
