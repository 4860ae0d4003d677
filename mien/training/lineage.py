"""Which faces trained a network, and which trained what it began with or learned from: whether a held-out score can be relied on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mien.core.types import FaceSet
from mien.data.splits import compute_checksums, read_checksums
from mien.training.checkpoint import read_checkpoint

#: Above this share of faces that trained an earlier model, a score on them is no held-out score.
#: Checksums of 32 bits agree by chance in about one of a million pairs of data sets' faces.
MOST_SEEN = 0.01


@dataclass(frozen=True)
class Lineage:
    """The faces behind the weights of a network, by the checksums of their pictures.

    own       uint32 (M,), ascending: the faces that trained it
    earlier   uint32 (L,), ascending: those that trained the models that it began with or learned from, and theirs
    size      side in pixels of these pictures
    unknown   earlier models of which nobody knows what trained them
    """

    own: np.ndarray
    earlier: np.ndarray
    size: int
    unknown: tuple[str, ...] = ()

    def seen_earlier(self, faces: FaceSet) -> int:
        """How many of the faces trained an earlier model but not this one; 0 where their size differs.

        A picture that also trained this network is a duplicate, and no sign that the models held out different faces.
        """
        return self._count(compute_checksums(faces.images), np.setdiff1d(self.earlier, self.own), faces.images.shape[1])

    def seen(self, faces: FaceSet) -> int:
        """How many of the faces are pictures that trained this network."""
        return self._count(compute_checksums(faces.images), self.own, faces.images.shape[1])

    def _count(self, pictures: np.ndarray, known: np.ndarray, size: int) -> int:
        return int(np.isin(pictures, known).sum()) if size == self.size else 0

    def to_checkpoint(self) -> dict[str, Any]:
        """Tensors and plain values, as a checkpoint may hold them."""
        own, earlier = (torch.from_numpy(values.view(np.int32)) for values in (self.own, self.earlier))
        return {"own": own, "earlier": earlier, "size": self.size, "unknown": list(self.unknown)}

    @classmethod
    def from_checkpoint(cls, values: dict[str, Any]) -> Lineage:
        own, earlier = (values[name].numpy().astype(np.int32).view(np.uint32) for name in ("own", "earlier"))
        return cls(own, earlier, int(values["size"]), tuple(map(str, values["unknown"])))


def lineage_of(model: str | Path) -> Lineage | None:
    """The lineage in a run folder or a .pt file; None for model files, older runs, and what is no run."""
    path = Path(model)
    path = path / "last.pt" if path.is_dir() else path
    if path.suffix != ".pt" or not path.is_file():
        return None
    contents = read_checkpoint(path)
    return Lineage.from_checkpoint(contents["lineage"]) if contents.get("lineage") else None


def lineage(training: Sequence[FaceSet], models: Sequence[str]) -> Lineage:
    """The lineage of a network that these faces train and that begins with, or learns from, these models."""
    size = training[0].images.shape[1]
    own = np.unique(np.concatenate([compute_checksums(faces.images) for faces in training]))
    found = {name: lineage_of(name) for name in models}
    unknown = [name for name, one in found.items() if one is None or one.size != size]
    known = [one for one in found.values() if one is not None and one.size == size]
    return Lineage(own, _faces_of(known), size, _names(unknown, known))


def of_average(members: Sequence[Lineage | None], names: Sequence[str]) -> Lineage | None:
    """The lineage of averaged runs: the faces of the last one, and as earlier models all others; None where it has none."""
    last = members[-1]
    if last is None:
        return None
    unknown = [name for name, one in zip(names, members, strict=True) if one is None or one.size != last.size]
    known = [one for one in members[:-1] if one is not None and one.size == last.size]
    earlier = np.union1d(_faces_of(known), last.earlier)
    return Lineage(last.own, earlier, last.size, _names(unknown, [*known, last]))


def _faces_of(models: Sequence[Lineage]) -> np.ndarray:
    """uint32, ascending: all faces behind some models."""
    parts = [faces for model in models for faces in (model.own, model.earlier)]
    return np.unique(np.concatenate([np.empty(0, np.uint32), *parts]))


def _names(unknown: Sequence[str], models: Sequence[Lineage]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*unknown, *(name for model in models for name in model.unknown)]))


def caveat(found: Lineage | None, faces: FaceSet) -> tuple[str, bool]:
    """(what is to be said of held-out faces, "" where nothing is; whether a score on them is no held-out score)."""
    if found is None:
        return "", False
    count = found.seen_earlier(faces)
    said = []
    if count:
        said.append(f"{count:,} of these {len(faces):,} faces trained a model that this one began with or learned from")
    if found.unknown:
        said.append(f"{' and '.join(found.unknown)} may have learned from these faces")
    return "; ".join(said), count > MOST_SEEN * len(faces)


def written_caveat(found: Lineage | None, names: Path) -> str:
    """`caveat` for the held-out faces that a run's validation.csv lists."""
    if found is None or not names.is_file():
        return ""
    pictures = read_checksums(names)
    count = int(np.isin(pictures, np.setdiff1d(found.earlier, found.own)).sum())
    said = [f"{count:,} of the {len(pictures):,} held-out faces trained another of the runs"] if count else []
    if found.unknown:
        said.append(f"{' and '.join(found.unknown)} may have learned from these faces")
    return "; ".join(said)
