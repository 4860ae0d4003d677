"""The faces that trained a network and its ancestors (start weights and teachers), to tell whether a score is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mien.core.types import FaceSet
from mien.data.splits import compute_checksums, read_checksums
from mien.training.runs.checkpoint import read_checkpoint

#: Above this share of faces that trained an ancestor, a score on them is not a held-out score.
#: 32-bit checksums of different faces agree by chance in about one of a million comparisons with a data set.
MAX_SEEN_SHARE = 0.01


@dataclass(frozen=True)
class Lineage:
    """The faces that trained a network, as checksums of their pictures.

    own_faces          uint32 (M,), ascending: the faces that trained the network itself
    ancestor_faces     uint32 (L,), ascending: the faces that trained its start weights and teachers, and their ancestors
    size               side in pixels of these pictures
    unknown_ancestors  names of ancestors whose training faces are unknown
    """

    own_faces: np.ndarray
    ancestor_faces: np.ndarray
    size: int
    unknown_ancestors: tuple[str, ...] = ()

    def count_seen_by_ancestors(self, faces: FaceSet) -> int:
        """Return how many of the faces trained an ancestor but not this network; 0 if their size differs.

        A picture that also trained this network is a duplicate. It does not show that the models held out other faces.
        """
        return self._count_matches(
            compute_checksums(faces.images), np.setdiff1d(self.ancestor_faces, self.own_faces), faces.images.shape[1]
        )

    def count_seen(self, faces: FaceSet) -> int:
        """Return how many of the faces are pictures that trained this network; 0 if their size differs."""
        return self._count_matches(compute_checksums(faces.images), self.own_faces, faces.images.shape[1])

    def _count_matches(self, pictures: np.ndarray, known: np.ndarray, size: int) -> int:
        return int(np.isin(pictures, known).sum()) if size == self.size else 0

    def to_checkpoint(self) -> dict[str, Any]:
        """Return tensors and plain values for a checkpoint."""
        own, earlier = (torch.from_numpy(values.view(np.int32)) for values in (self.own_faces, self.ancestor_faces))
        return {"own": own, "earlier": earlier, "size": self.size, "unknown": list(self.unknown_ancestors)}

    @classmethod
    def from_checkpoint(cls, values: dict[str, Any]) -> Lineage:
        own, earlier = (values[name].numpy().astype(np.int32).view(np.uint32) for name in ("own", "earlier"))
        return cls(own, earlier, int(values["size"]), tuple(map(str, values["unknown"])))


def read_lineage(model: str | Path) -> Lineage | None:
    """Return the lineage in a run folder or a .pt file; None for model files, older runs and other paths."""
    path = Path(model)
    path = path / "last.pt" if path.is_dir() else path
    if path.suffix != ".pt" or not path.is_file():
        return None
    contents = read_checkpoint(path)
    return Lineage.from_checkpoint(contents["lineage"]) if contents.get("lineage") else None


def collect_lineage(training: Sequence[FaceSet], models: Sequence[str]) -> Lineage:
    """Return the lineage of a network trained on these faces, with these models as start weights and teachers."""
    size = training[0].images.shape[1]
    own = np.unique(np.concatenate([compute_checksums(faces.images) for faces in training]))
    by_model = {name: read_lineage(name) for name in models}
    unknown = [name for name, one in by_model.items() if one is None or one.size != size]
    known = [one for one in by_model.values() if one is not None and one.size == size]
    return Lineage(own, _collect_checksums(known), size, _collect_unknown(unknown, known))


def combine_lineages(members: Sequence[Lineage | None], names: Sequence[str]) -> Lineage | None:
    """Return the lineage of averaged runs: the last run's faces, with all others as ancestors; None if it has none."""
    last = members[-1]
    if last is None:
        return None
    unknown = [name for name, one in zip(names, members, strict=True) if one is None or one.size != last.size]
    known = [one for one in members[:-1] if one is not None and one.size == last.size]
    earlier = np.union1d(_collect_checksums(known), last.ancestor_faces)
    return Lineage(last.own_faces, earlier, last.size, _collect_unknown(unknown, [*known, last]))


def _collect_checksums(models: Sequence[Lineage]) -> np.ndarray:
    """Return the checksums of all faces that trained the models and their ancestors: uint32, ascending."""
    parts = [faces for model in models for faces in (model.own_faces, model.ancestor_faces)]
    return np.unique(np.concatenate([np.empty(0, np.uint32), *parts]))


def _collect_unknown(unknown: Sequence[str], models: Sequence[Lineage]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*unknown, *(name for model in models for name in model.unknown_ancestors)]))


def describe_overlap(lineage: Lineage | None, faces: FaceSet) -> tuple[str, bool]:
    """Return a note on held-out faces ("" if there is none), and whether a score on them is not a held-out score."""
    if lineage is None:
        return "", False
    count = lineage.count_seen_by_ancestors(faces)
    notes = []
    if count:
        notes.append(
            f"{count:,} of these {len(faces):,} faces trained a model that this one started from or learned from"
        )
    if lineage.unknown_ancestors:
        notes.append(f"{' and '.join(lineage.unknown_ancestors)} may have learned from these faces")
    return "; ".join(notes), count > MAX_SEEN_SHARE * len(faces)


def describe_stored_overlap(lineage: Lineage | None, names: Path) -> str:
    """Return the note of `describe_overlap` for the held-out faces that a run's validation.csv lists."""
    if lineage is None or not names.is_file():
        return ""
    pictures = read_checksums(names)
    count = int(np.isin(pictures, np.setdiff1d(lineage.ancestor_faces, lineage.own_faces)).sum())
    notes = [f"{count:,} of the {len(pictures):,} held-out faces trained another of the runs"] if count else []
    if lineage.unknown_ancestors:
        notes.append(f"{' and '.join(lineage.unknown_ancestors)} may have learned from these faces")
    return "; ".join(notes)
