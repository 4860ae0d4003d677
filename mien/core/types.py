"""The data types that are shared by all packages. They are frozen and validate themselves."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np

from mien.core.errors import DataError, UsageError

#: Roles of splits and their names. All names of a role select the same splits.
SPLIT_ROLES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
_ROLE_OF_NAME = {name: role for role, names in SPLIT_ROLES.items() for name in names}

UNLABELED = -1

#: The class of all other expressions, for a network that separates one expression from the rest.
OTHER = "other"


def split_role(name: str) -> str:
    """Return the role of a split: ``"Training"`` → ``"train"``, ``"PublicTest"`` → ``"validation"``.

    A name without a known role is returned in lower case.

    ``FER2013Train``, ``Training Set``, ``private_test`` and ``val-images`` have roles too.
    """
    word = name.strip().lower()
    bare = re.sub(r"^fer2013|(set|split|images|data)$", "", re.sub(r"[\s_-]+", "", word))
    return _ROLE_OF_NAME.get(bare, word)


@dataclass(frozen=True)
class FaceSet:
    """Face crops of one size with their labels, names, splits and votes.

    images   uint8 (N, H, W), gray
    labels   int64 (N,), index into classes, or -1 where the label is unknown
    classes  class names in the order of the labels
    names    str (N,), unique: the path of a picture, or ``file#row``
    split    str (N,), the name of the split in the file, "" without one
    votes    uint8 (N, 10), counts in the order of labels.FERPLUS_VOTES, or None
    skipped  the error of each broken row that a reader skipped
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    names: np.ndarray
    split: np.ndarray
    votes: np.ndarray | None = None
    skipped: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.images.dtype != np.uint8 or self.images.ndim != 3:
            raise ValueError(f"images must be uint8 (N, H, W), not {self.images.dtype} {self.images.shape}")
        for what, array in (("labels", self.labels), ("names", self.names), ("split", self.split)):
            if array.shape != (count,):
                raise ValueError(f"{what} must have shape ({count},), not {array.shape}")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must differ from each other, not {', '.join(self.classes)}")
        if count and not (self.labels.min() >= UNLABELED and self.labels.max() < len(self.classes)):
            raise ValueError(f"labels reach {self.labels.min()}..{self.labels.max()} with {len(self.classes)} classes")
        if self.votes is not None and self.votes.shape != (count, 10):
            raise ValueError(f"votes must have shape ({count}, 10), not {self.votes.shape}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_labeled(self) -> np.ndarray:
        """Return bool (N,): whether the label is known."""
        return self.labels != UNLABELED

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the distinct split names in the order of their first row."""
        return tuple(dict.fromkeys(self.split.tolist()))

    def class_counts(self) -> np.ndarray:
        """Count the labeled faces of each class, int64 (K,)."""
        return np.bincount(self.labels[self.is_labeled], minlength=len(self.classes))

    def take(self, which: np.ndarray | Sequence[int]) -> FaceSet:
        """Return the rows of an index array int (M,) or of a mask bool (N,)."""
        votes = None if self.votes is None else self.votes[which]
        return replace(
            self,
            images=self.images[which],
            labels=self.labels[which],
            names=self.names[which],
            split=self.split[which],
            votes=votes,
            skipped=(),
        )

    def select_names(self, names: set[str]) -> FaceSet:
        """Return the rows with these names."""
        return self.take(np.isin(self.names, sorted(names)))

    def has_split(self, name: str) -> bool:
        """Return whether a split of this name or role occurs."""
        return split_role(name) in {split_role(split) for split in self.splits}

    def select_split(self, name: str) -> FaceSet:
        """Return the rows of a split, by its name or by its role (``train`` selects ``Training``).

        Raises DataError if no row is selected.
        """
        exact = self.split == name
        return self.take(exact) if exact.any() else self.select_role(name)

    def select_role(self, name: str) -> FaceSet:
        """Return the rows of all splits of one role: ``test`` selects ``test`` and ``PrivateTest``.

        Raises DataError if no row is selected.
        """
        matching = np.isin(self.split, [found for found in self.splits if split_role(found) == split_role(name)])
        if not matching.any() and self.splits == ("",):
            raise DataError(
                f"split '{name}'",
                "does not occur; the data is not divided",
                "divide it with 'mien data split', or with mien.data.splits",
            )
        if not matching.any():
            found = ", ".join(f"{split or '(none)'}" for split in self.splits)
            raise DataError(
                f"split '{name}'",
                f"does not occur; the data has: {found}",
                "name one of these with `split`, or with `data.train` and `data.validation` of a recipe",
            )
        return self.take(matching)

    def reindex_classes(self, classes: Sequence[str]) -> FaceSet:
        """Return the faces with labels in the order of other ``classes``, such as those of a model.

        For two classes, one of which is ``other``, all remaining classes become ``other``.
        Raises DataError if a labeled face has a class that is not in ``classes``.
        """
        if tuple(classes) == self.classes:
            return self
        position = {name: index for index, name in enumerate(classes)}
        if len(classes) == 2 and OTHER in position and any(name in position for name in self.classes):
            position = dict.fromkeys(self.classes, position[OTHER]) | position
        used = [self.classes[label] for label in np.unique(self.labels[self.is_labeled])]
        unknown = [name for name in used if name not in position]
        if unknown:
            common = ",".join(name for name in used if name in position)
            without = f"select the other classes with `classes={common}` of 'mien data split'"
            raise DataError(
                "classes",
                f"the data has {', '.join(unknown)}, the model knows {', '.join(classes)}",
                f"{without}, or rename its classes" if common else "choose another model, or rename the data's classes",
            )
        table = np.array([position.get(name, UNLABELED) for name in self.classes] + [UNLABELED])
        return replace(self, labels=table[self.labels], classes=tuple(classes))


def concatenate_faces(sets: Iterable[FaceSet]) -> FaceSet:
    """Join several sets. Classes are matched by name.

    Raises DataError if the pictures have different sizes or if a name occurs twice.
    """
    from mien.core.labels import sort_labels

    sets = list(sets)
    if len(sets) == 1:
        return sets[0]
    same_order = len({faces.classes for faces in sets if faces.classes}) == 1
    classes = (
        next(f.classes for f in sets if f.classes) if same_order else sort_labels(n for f in sets for n in f.classes)
    )
    sizes = {faces.images.shape[1:] for faces in sets}
    if len(sizes) > 1:
        raise DataError("data", f"pictures of different sizes {sorted(sizes)}", "scale them to one size first")
    sets = [faces.reindex_classes(classes) for faces in sets]
    names = np.concatenate([faces.names for faces in sets])
    if len(np.unique(names)) != len(names):
        raise DataError("data", "the same picture occurs in two of the files", "name each file once")
    with_votes = all(faces.votes is not None for faces in sets)
    return FaceSet(
        images=np.concatenate([faces.images for faces in sets]),
        labels=np.concatenate([faces.labels for faces in sets]),
        classes=classes,
        names=names,
        split=np.concatenate([faces.split for faces in sets]),
        votes=np.concatenate([faces.votes for faces in sets]) if with_votes else None,
        skipped=tuple(why for faces in sets for why in faces.skipped),
    )


@dataclass(frozen=True, eq=False, repr=False)
class Face:
    """One face of a picture with the probabilities of its expressions; equal to another where all fields are.

    box_xyxy        box of the detector, floats in pixels of the upright picture
    score           confidence of the detector in 0..1, None without a detector
    probabilities   float32 (K,), with the sum 1
    labels          the model's class names
    track           number of the track in a video, else None
    smoothed        float32 (K,), probabilities smoothed along the track, else None
    smoothed_label  label of the smoothed probabilities, which does not flicker; "" without a track
    unsure_below    a label of lower probability is unsure; None: no threshold was set
    not_a_face      score of the model in 0..1 that this is no face, None if the model has no such score
    is_not_a_face   whether that score is above the threshold of the model
    read_picture    returns the picture that the box lies in, RGB uint8 (H, W, 3); None where it is unknown. Not compared
    """

    box_xyxy: tuple[float, float, float, float]
    score: float | None
    probabilities: np.ndarray
    labels: tuple[str, ...]
    track: int | None = None
    smoothed: np.ndarray | None = None
    smoothed_label: str = ""
    unsure_below: float | None = None
    not_a_face: float | None = None
    is_not_a_face: bool = False
    read_picture: Callable[[], np.ndarray] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        x1, y1, x2, y2 = self.box_xyxy
        if not (x1 < x2 and y1 < y2):
            raise ValueError(f"box {self.box_xyxy} must satisfy x1 < x2 and y1 < y2")
        if self.probabilities.shape != (len(self.labels),):
            raise ValueError(f"{self.probabilities.shape} probabilities for {len(self.labels)} labels")

    @property
    def label(self) -> str:
        """Return the most probable expression."""
        return self.labels[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float:
        """Return the probability of ``label``."""
        return float(self.probabilities.max())

    @property
    def is_unsure(self) -> bool | None:
        """Return whether ``confidence`` is below ``unsure_below``; None without a threshold."""
        return None if self.unsure_below is None else self.confidence < self.unsure_below

    @property
    def valence(self) -> float | None:
        """Return the valence of the expression, -1..1; None if the model lacks the labels (see `compute_valence`)."""
        return compute_valence(self.labels, self.probabilities)

    @property
    def display_label(self) -> str:
        """Return the label that is shown to people: the smoothed label of a track, or ``label`` without a track."""
        return self.label if self.smoothed is None else self.smoothed_label

    @property
    def display_probability(self) -> float:
        """Return the probability of ``display_label``, smoothed along the track if there is one."""
        if self.smoothed is None:
            return self.confidence
        return float(self.smoothed[self.labels.index(self.smoothed_label)])

    @property
    def is_display_unsure(self) -> bool:
        """Return whether ``display_probability`` is below ``unsure_below``; False without a threshold."""
        return self.unsure_below is not None and self.display_probability < self.unsure_below

    def probability(self, label: str) -> float:
        """Return the probability of a label, 0..1; other names of it are understood, as in "happiness".

        Raises UsageError, with the choices, for a label that the model does not have.
        """
        from mien.core.labels import normalize_label

        name = label if label in self.labels else normalize_label(label)
        if name not in self.labels:
            raise UsageError(f"`label={label}`", "is unknown", f"choose one of {', '.join(self.labels)}")
        return float(self.probabilities[self.labels.index(name)])

    @property
    def crop(self) -> np.ndarray:
        """Return what the picture shows inside the box, RGB uint8 (h, w, 3); beyond its edges there is nothing.

        A picture that was given as a path is read again. Raises MediaError if it is gone, UsageError where the face has no
        picture: one read from records, or of a video's frame that is no longer held.
        """
        if self.read_picture is None:
            hint = "crop it while its frame is held, or analyze the picture itself"
            raise UsageError("`face.crop`", "has no picture", hint)
        return crop_box(self.read_picture(), self.box_xyxy)

    def as_dict(self) -> dict[str, Any]:
        """Return the face as JSON holds it; probabilities by label, and all that is derived of them."""
        return {
            "label": self.label, "confidence": self.confidence, "box_xyxy": [float(value) for value in self.box_xyxy],
            "score": self.score, "probabilities": _values_by_label(self.labels, self.probabilities),
            "is_unsure": self.is_unsure, "unsure_below": self.unsure_below, "not_a_face": self.not_a_face,
            "is_not_a_face": self.is_not_a_face, "valence": self.valence, "track": self.track,
            "smoothed_label": self.smoothed_label or None,
            "smoothed": None if self.smoothed is None else _values_by_label(self.labels, self.smoothed),
        }  # fmt: skip

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Face):
            return NotImplemented
        return all(_is_equal(getattr(self, one.name), getattr(other, one.name)) for one in fields(self) if one.compare)

    def __hash__(self) -> int:
        return hash((self.box_xyxy, self.labels, self.track))

    def __str__(self) -> str:
        x1, y1, x2, y2 = self.box_xyxy
        return f"{self.label}{'?' if self.is_unsure else ''} {self.confidence:.2f} at ({x1:.0f}, {y1:.0f})-({x2:.0f}, {y2:.0f})"

    def __repr__(self) -> str:
        return f"<Face {self}>" if self.track is None else f"<Face {self}, track {self.track}>"


def _is_equal(one: Any, other: Any) -> bool:
    """Whether two values are equal, arrays by shape and content."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return one is not None and other is not None and np.array_equal(one, other)
    return bool(one == other)


def _values_by_label(labels: tuple[str, ...], values: np.ndarray) -> dict[str, float]:
    return {name: float(value) for name, value in zip(labels, values, strict=True)}


def crop_box(picture: np.ndarray, box_xyxy: tuple[float, float, float, float]) -> np.ndarray:
    """Return a copy of what a picture (H, W, 3) shows inside a box, at least one pixel: (h, w, 3)."""
    height, width = picture.shape[:2]
    left, top = (
        min(max(0, math.floor(value)), size - 1) for value, size in zip(box_xyxy[:2], (width, height), strict=True)
    )
    right, bottom = (max(math.ceil(value), least + 1) for value, least in zip(box_xyxy[2:], (left, top), strict=True))
    return picture[top:bottom, left:right].copy()


def compute_valence(labels: tuple[str, ...], probabilities: np.ndarray) -> float | None:
    """Compute p(happy) minus the highest probability of a negative expression, -1..1, as FaceReader defines valence.

    probabilities float (K,). Returns None if the labels (K,) lack happy or all of labels.NEGATIVE.
    """
    positive, negative = _find_valence_columns(labels)
    if not positive or not negative:
        return None
    return float(probabilities[list(positive)].max()) - float(probabilities[list(negative)].max())


@lru_cache
def _find_valence_columns(labels: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the columns of happy and of the negative expressions."""
    from mien.core.labels import NEGATIVE, normalize_label

    names = [normalize_label(label) for label in labels]
    positive = tuple(index for index, name in enumerate(names) if name == "happy")
    return positive, tuple(index for index, name in enumerate(names) if name in NEGATIVE)


@dataclass(frozen=True)
class FrameResult:
    """The faces of one picture, or of one frame of a video.

    source          path or address of the input
    frame           number of the frame, from 0; 0 for a picture
    time_s          seconds by the timestamps of the stream; 0.0 for a picture
    size_wh         width and height in pixels, upright
    player_time_s   seconds as shown by a player, from 0; None: equal to time_s
    duration_s      seconds that the frame is shown; None: unknown, or a picture
    """

    source: str
    frame: int
    time_s: float
    size_wh: tuple[int, int]
    faces: tuple[Face, ...]
    player_time_s: float | None = None
    duration_s: float | None = None
