"""What the program says of the faces that a model is scored on."""

from __future__ import annotations

from mien.cli.messages import print_note
from mien.core.types import FaceSet
from mien.data.annotators import ANNOTATORS


def print_left_out(everything: FaceSet, scored: FaceSet, description: str, *, quiet: bool) -> None:
    """Print on stderr how many faces are not scored, if any."""
    count = len(everything) - len(scored)
    if not count:
        return
    if count == (~everything.is_labeled).sum():
        print_note(f"{count:,} faces without a label are left out", quiet=quiet)
        return
    unlabeled = "" if everything.is_labeled.all() else ", or have no label,"
    note = f"{count:,} faces that are not {description}{unlabeled} are left out; --split selects another split"
    print_note(note, quiet=quiet)


def describe_label_source(labels_by: str) -> str:
    """Return what is added to the description of faces whose labels are not the file's own."""
    return " by FER+'s annotators" if labels_by == ANNOTATORS else ""
