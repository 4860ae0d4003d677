"""The inputs of `mien analyze`, one after the other, and what the program says of each."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mien.cli.messages import complain, counted, explain
from mien.core.errors import escape_controls
from mien.core.progress import say

if TYPE_CHECKING:
    from mien.analysis.manifest import Manifest
    from mien.analysis.media.inputs import Input
    from mien.analysis.recognizer import Recognizer
    from mien.analysis.settings import Done, Settings
    from mien.cli.analyze import Stopping
    from mien.core.errors import MediaError

#: Pictures whose faces are printed one by one; of more, only a line each.
TABLES_SHOWN = 10


class Analysis:
    """All inputs, one after the other; what was done, and what failed and why, is told as it happens.

    finished    for each input what --json says of it
    failures    a message for each, and for all that were not begun
    not_done    how many inputs that is
    left_out    endings of pictures and videos in folders that are not read here, counted
    """

    def __init__(
        self, recognizer: Recognizer, settings: Settings, resume: bool, show: bool, stopping: Stopping
    ) -> None:
        self.recognizer, self.settings, self.resume, self.show = recognizer, settings, resume, show
        self.stopping = stopping
        self.finished: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.not_done = 0
        self.left_out: Counter[str] = Counter()

    def run(self, inputs: list[str]) -> None:
        from mien.analysis.manifest import Manifest
        from mien.analysis.media.inputs import describe_left_out, list_inputs
        from mien.core.progress import progress_bar

        items = list_inputs(inputs, self.settings.out, self.left_out)
        several = len(items) > 1
        with ExitStack() as stack:
            manifest = None
            if several or self.resume:
                manifest = Manifest(self.settings.out, self._key(), self.resume)
                stack.callback(manifest.close)
                items = manifest.named(items)
            bar = stack.enter_context(progress_bar("files", len(items), quiet=self.settings.quiet or not several))
            for done, item in enumerate(items, start=1):
                self._one(item, manifest)
                bar.advance(1, f"{len(self.finished):,} done, {len(self.failures):,} failed")
                if self.stopping.is_wanted() and done < len(items):
                    left = len(items) - done
                    self._failed(f"stopped: {left:,} of {len(items):,} inputs were not begun", left)
                    break
            if self.left_out and self.finished:  # without, the folder's error says it
                complain(describe_left_out(self.left_out))
            if several and self.finished:
                self._joint_table()
            if manifest is not None:
                if not self.finished:
                    manifest.remove()
                elif not self.stopping.is_wanted():
                    manifest.end()

    def _key(self) -> dict[str, Any]:
        """What the results depend on beside the inputs."""
        settings = self.settings
        choices = {
            name: repr(getattr(settings, name)) for name in ("formats", "media", "style", "smoothing_s", "sampling")
        }
        return {**self.recognizer.describe(), **choices}

    def _one(self, item: Input | MediaError, manifest: Manifest | None) -> None:
        from mien.analysis.pipeline import analyze_input
        from mien.core.errors import MediaError

        if isinstance(item, MediaError):
            self._failed(explain(item))
            return
        before = manifest.finished(item) if manifest is not None else None
        if before is not None:
            self.finished.append(before["done"])
            if self.show:
                say(f"{escape_controls(item.name)}: done before")
            for warning in before["done"]["warnings"]:  # the exit code speaks of them too
                complain(f"{item.name}: {warning}")
            return
        try:
            with self.stopping.during(item):
                done = analyze_input(item, self.recognizer, self.settings)
        except Exception as error:  # noqa: BLE001 - one bad file must not cost the others their results
            self._failed(explain(error, f"{item.name}: "))
            if manifest is not None:
                manifest.add(item, state="failed", why=self.failures[-1], outputs=[])
            return
        told = _as_json(done, self.recognizer)
        self.finished.append(told)
        if manifest is not None:
            manifest.add(item, state="done", outputs=told["outputs"], done=told)
        for warning in done.warnings:
            complain(f"{done.source}: {warning}")
        if self.show:
            if len(self.finished) == TABLES_SHOWN + 1:
                say("of the others a line each; the records hold all of them")
            _print(done, self.recognizer, in_full=len(self.finished) <= TABLES_SHOWN)

    def _failed(self, why: str, inputs: int = 1) -> None:
        self.failures.append(why)
        self.not_done += inputs
        complain(why)

    def _joint_table(self) -> None:
        """The records of all inputs in one table, read back from their own."""
        from mien.analysis.output.writers import record_path, record_writer
        from mien.analysis.people.records import rows_of

        out, formats = self.settings.out, self.settings.formats
        with record_writer(out / "all", formats, self.recognizer.labels) as table:
            for done in self.finished:
                (own,) = (path for path in done["outputs"] if path.endswith(f".records.{formats[0]}"))
                for rows in rows_of(own):
                    table.write(rows)
        if self.show:
            paths = ", ".join(str(record_path(out / "all", name)) for name in formats)
            say(f"all records in one table: {paths}")


def _print(done: Done, recognizer: Recognizer, in_full: bool) -> None:
    """A table of a picture's faces with every probability, or a line for a video; then what was written."""
    source = escape_controls(done.source)
    if done.faces and in_full:
        say(f"{source}: {counted(len(done.faces), 'face')}")
        _print_table(done, recognizer)
    elif done.is_video:
        shares = f": {_shares(done.totals)}" if done.people else ""
        say(f"{source}: {counted(done.frames, 'frame')}, {counted(done.faces_seen, 'face')}{shares}")
        _print_people(done)
    elif done.faces:
        say(f"{source}: " + ", ".join(f"{face.label} {face.confidence:.0%}" for face in done.faces))
    else:
        hint = "" if recognizer.detector is None else " (if the picture is itself a face: --detector none)"
        say(f"{source}: no face found{hint}")
    if in_full:
        say("  wrote " + ", ".join(escape_controls(str(path)) for path in done.outputs))


def _print_table(done: Done, recognizer: Recognizer) -> None:
    """Plain columns: they fit any terminal, and can be cut and sorted by other programs."""
    head = ["face", "expression", *recognizer.labels, "x1", "y1", "x2", "y2"]
    rows = [
        [
            str(number),
            f"{face.label}{'?' if face.unsure else ''}",
            *(f"{p:.3f}" for p in face.probabilities),
            *(f"{v:.0f}" for v in face.box_xyxy),
        ]
        for number, face in enumerate(done.faces)
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        say(
            "  "
            + "  ".join(
                cell.ljust(width) if column == 1 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )


#: People of a video that are listed on the console; the summary has all.
MOST_LISTED = 8


def _print_people(done: Done) -> None:
    """A line for each person, who was seen longest first; then one for what was found and is probably no face."""
    for person in done.people[:MOST_LISTED]:
        say(
            f"  person {person['person']}: {person['on_screen_s']:.1f} s on screen from {person['first_s']:.1f} s, "
            f"{counted(person['changes'], 'change')}: {_shares(person)}"
        )
    if len(done.people) > MOST_LISTED:
        say(f"  and {len(done.people) - MOST_LISTED:,} more")
    if done.not_faces:
        names = ", ".join(str(one["person"]) for one in done.not_faces[:MOST_LISTED])
        more = f" and {len(done.not_faces) - MOST_LISTED:,} more" if len(done.not_faces) > MOST_LISTED else ""
        say(f"  probably no face, and not counted: {names}{more}")


def _shares(people: dict[str, Any]) -> str:
    """``happy 62%, sad 38%``: shares of the time on screen of one person, or of all; with the doubt there is."""
    share = {name: value for name, value in people["share"].items() if value >= 0.005}
    shares = ", ".join(f"{name} {value:.0%}" for name, value in sorted(share.items(), key=lambda item: -item[1]))
    return (
        f"mostly unsure ({people['sure_share']:.0%} of the time sure): {shares}" if people["mostly_unsure"] else shares
    )


def _as_json(done: Done, recognizer: Recognizer) -> dict[str, Any]:
    from mien.analysis.output.writers import records_of
    from mien.core.types import FrameResult

    values = done.to_json()
    if not done.is_video:
        result = FrameResult(done.source, 0, 0.0, (0, 0), done.faces)
        values["records"] = records_of(result, recognizer.model_name, recognizer.detector_name)
    return values
