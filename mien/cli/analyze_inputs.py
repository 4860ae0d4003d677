"""The inputs of `mien analyze`, one after the other, and what the program says of each."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mien.cli.messages import format_error, pluralize, print_error
from mien.cli.supervision import begin_input, end_input
from mien.core.errors import escape_controls
from mien.core.progress import echo

if TYPE_CHECKING:
    from mien.analysis.manifest import Manifest
    from mien.analysis.media.inputs import Input
    from mien.analysis.ownership import Ownership
    from mien.analysis.recognizer import Recognizer
    from mien.analysis.settings import AnalysisContext, AnalysisResult
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

    ``crash`` names the signal of the process that analyzed these inputs until it crashed: this one goes on behind the
    input that it was at.
    """

    manifest: Manifest | None
    ownership: Ownership

    def __init__(
        self,
        recognizer: Recognizer,
        context: AnalysisContext,
        resume: bool,
        show: bool,
        stopping: Stopping,
        crash: str = "",
    ) -> None:
        self.recognizer, self.context, self.resume, self.show = recognizer, context, resume, show
        self.stopping, self.crash = stopping, crash
        self.finished: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.not_done = 0
        self.left_out: Counter[str] = Counter()

    def run(self, inputs: list[str]) -> None:
        from mien.analysis.manifest import Manifest
        from mien.analysis.media.inputs import assign_stems, describe_skipped, list_inputs
        from mien.analysis.ownership import Ownership
        from mien.core.files import make_folder
        from mien.core.locks import hold_lock

        out = self.context.out
        items = list_inputs(inputs, out, self.left_out)
        several = len(items) > 1
        make_folder(out)
        self.ownership = Ownership(out, self._key())
        with ExitStack() as stack:
            stack.callback(self.ownership.remove_unused)
            self.manifest = None
            if several or self.resume:
                hint = "wait for it, or choose another folder with --out"
                stack.enter_context(hold_lock(out / ".manifest.lock", out, hint))
                self.manifest = Manifest(out, self._key(), self.resume or bool(self.crash), bool(self.crash))
                stack.callback(self.manifest.close)
                named = self.manifest.assign_stems(items, self.ownership.is_free)
            else:
                named = assign_stems(items, is_free=self.ownership.is_free)
            self._say_where(items, named)
            told = self._told_before(named)
            self._all(named[told:], told, len(named))
            if self.left_out and self.finished:  # without, the folder's error says it
                print_error(describe_skipped(self.left_out))
            if several and self.finished:
                self._joint_table()
            if self.manifest is not None:
                if not self.finished:
                    self.manifest.remove(named)
                elif not self.stopping.is_wanted():
                    self.manifest.mark_ended()

    def _all(self, items: list[Input | MediaError], told: int, count: int) -> None:
        from mien.core.progress import progress_bar

        with progress_bar("files", count, told, quiet=self.context.quiet or count == 1) as bar:
            for done, item in enumerate(items, start=told + 1):
                self._one(item)
                bar.advance(1, f"{len(self.finished):,} done, {len(self.failures):,} failed")
                if self.stopping.is_wanted() and done < count:
                    left = count - done
                    self._failed(f"stopped: {left:,} of {count:,} inputs were not begun", left)
                    break

    def _say_where(self, items: list[Input | MediaError], named: list[Input | MediaError]) -> None:
        """Say of which inputs the outputs are named differently, because those of another input have the name."""
        from mien.core.errors import MediaError

        for item, now in zip(items, named, strict=True):
            if isinstance(item, MediaError) or item.stem == now.stem or self.crash:
                continue
            owner = None if self.ownership.is_free(item.stem, item) else self.ownership.find_owner(item.stem)
            if owner is not None:
                print_error(
                    f"{item.name}: its outputs are named {now.stem}.*, since {item.stem}.* are those of {owner}"
                )

    def _told_before(self, items: list[Input | MediaError]) -> int:
        """After a crash: how many inputs had their turn, the last of which crashed; what became of them is known again."""
        from mien.core.errors import MediaError

        if not self.crash:
            return 0
        lines = [
            {} if self.manifest is None or isinstance(item, MediaError) else self.manifest.latest_entry(item)
            for item in items
        ]
        begun = [
            number
            for number, line in enumerate(lines)
            if line.get("state", "begun" if len(items) == 1 else "") == "begun"
        ]
        if not begun:
            raise MediaError("mien analyze", f"crashed ({self.crash})", "report it, with the command")
        crashed = begun[0]
        for item, line in zip(items[:crashed], lines, strict=False):
            if "done" in line:
                self.finished.append(line["done"])
            else:
                self._failed(format_error(item) if isinstance(item, MediaError) else line["why"], told=True)
        self._crashed(items[crashed])
        return crashed + 1

    def _crashed(self, item: Input) -> None:
        from mien.analysis.pipeline import discard

        is_short = self.crash == "SIGKILL"  # of memory: nothing is wrong with the input
        discard(self.context.out / item.stem, keep_parts=is_short)
        if is_short:
            found = "was not finished: the system ended it, probably for want of memory (SIGKILL)"
            hint = "what was finished is kept: the same command goes on with more memory"
        else:
            found = f"cannot be analyzed: a decoder crashed ({self.crash})"
            hint = "convert it with another program"
        why = f"{item.name}: {found}; {hint}"
        self._failed(why)
        if self.manifest is not None:
            self.manifest.add_result(item, state="failed" if is_short else "crashed", why=why, outputs=[])

    def _key(self) -> dict[str, Any]:
        """What the results depend on beside the inputs."""
        return {**self.recognizer.describe(), "options": self.context.options.output_choices()}

    def _one(self, item: Input | MediaError) -> None:
        from mien.analysis.pipeline import analyze_input
        from mien.core.errors import MediaError

        if isinstance(item, MediaError):
            self._failed(format_error(item))
            return
        if self.manifest is not None:
            if self._known(item):
                return
            self.manifest.mark_begun(item)
        begin_input()
        try:
            with self.stopping.during(item):
                done = analyze_input(item, self.recognizer, self.context, begin=self.ownership.claim_stem)
        except Exception as error:  # noqa: BLE001 - one bad file must not cost the others their results
            self._failed(format_error(error, f"{item.name}: "))
            if self.manifest is not None:
                self.manifest.add_result(item, state="failed", why=self.failures[-1], outputs=[])
            end_input(is_finished=False)
            return
        self._tell(item, done)
        end_input(is_finished=True)

    def _known(self, item: Input) -> bool:
        """Whether it is known from an earlier run what becomes of an input, which is then told."""
        before = self.manifest.find_finished(item)
        if before is not None and "done" in before:
            self.finished.append(before["done"])
            if self.show:
                echo(f"{escape_controls(item.name)}: done before")
            for warning in before["done"]["warnings"]:  # the exit code speaks of them too
                print_error(f"{item.name}: {warning}")
            return True
        line = self.manifest.find_entry(item)
        if line is None or line["state"] != "crashed":
            return False
        self._failed(f"{line['why']} (known from an earlier run)")
        return True

    def _tell(self, item: Input, done: AnalysisResult) -> None:
        told = _as_json(done, self.recognizer)
        self.finished.append(told)
        if self.manifest is not None:
            self.manifest.add_result(item, state="done", outputs=told["outputs"], done=told)
        for warning in done.warnings:
            print_error(f"{done.source}: {warning}")
        if old := self.ownership.record_outputs(item, done.outputs):
            print_error(
                f"{done.source}: {', '.join(map(str, old))} beside its outputs: of an earlier run with other settings"
            )
        if self.show:
            if len(self.finished) == TABLES_SHOWN + 1:
                echo("of the others a line each; the records hold all of them")
            _print(done, self.recognizer, in_full=len(self.finished) <= TABLES_SHOWN)

    def _failed(self, why: str, inputs: int = 1, told: bool = False) -> None:
        self.failures.append(why)
        self.not_done += inputs
        if not told:
            print_error(why)

    def _joint_table(self) -> None:
        """The records of all inputs in one table, read back from their own."""
        from mien.analysis.output.writers import record_path, record_writer
        from mien.analysis.people.records import rows_of

        out, formats = self.context.out, self.context.options.formats
        with record_writer(out / "all", formats, self.recognizer.labels) as table:
            for done in self.finished:
                (own,) = (path for path in done["outputs"] if path.endswith(f".records.{formats[0]}"))
                for rows in rows_of(own):
                    table.write(rows)
        if self.show:
            paths = ", ".join(str(record_path(out / "all", name)) for name in formats)
            echo(f"all records in one table: {paths}")


def _print(done: AnalysisResult, recognizer: Recognizer, in_full: bool) -> None:
    """A table of a picture's faces with every probability, or a line for a video; then what was written."""
    source = escape_controls(done.source)
    if done.faces and in_full:
        echo(f"{source}: {pluralize(len(done.faces), 'face')}")
        _print_table(done, recognizer)
    elif done.is_video:
        shares = f": {_shares(done.totals)}" if done.people else ""
        echo(f"{source}: {pluralize(done.frames, 'frame')}, {pluralize(done.faces_seen, 'face')}{shares}")
        _print_people(done)
    elif done.faces:
        echo(f"{source}: " + ", ".join(f"{face.label} {face.confidence:.0%}" for face in done.faces))
    else:
        hint = "" if recognizer.detector.is_whole_picture else " (if the picture is itself a face: --detector none)"
        echo(f"{source}: no face found{hint}")
    if in_full:
        echo("  wrote " + ", ".join(escape_controls(str(path)) for path in done.outputs))


def _print_table(done: AnalysisResult, recognizer: Recognizer) -> None:
    """Plain columns: they fit any terminal, and can be cut and sorted by other programs."""
    head = ["face", "expression", *recognizer.labels, "x1", "y1", "x2", "y2"]
    rows = [
        [
            str(number),
            f"{face.label}{'?' if face.is_unsure else ''}",
            *(f"{p:.3f}" for p in face.probabilities),
            *(f"{v:.0f}" for v in face.box_xyxy),
        ]
        for number, face in enumerate(done.faces)
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        echo(
            "  "
            + "  ".join(
                cell.ljust(width) if column == 1 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )


#: People of a video that are listed on the console; the summary has all.
MOST_LISTED = 8


def _print_people(done: AnalysisResult) -> None:
    """A line for each person, who was seen longest first; then one for what was found and is probably no face."""
    for person in done.people[:MOST_LISTED]:
        echo(
            f"  person {person['person']}: {person['on_screen_s']:.1f} s on screen from {person['first_s']:.1f} s, "
            f"{pluralize(person['changes'], 'change')}: {_shares(person)}"
        )
    if len(done.people) > MOST_LISTED:
        echo(f"  and {len(done.people) - MOST_LISTED:,} more")
    if done.not_faces:
        names = ", ".join(str(one["person"]) for one in done.not_faces[:MOST_LISTED])
        more = f" and {len(done.not_faces) - MOST_LISTED:,} more" if len(done.not_faces) > MOST_LISTED else ""
        echo(f"  probably no face, and not counted: {names}{more}")


def _shares(people: dict[str, Any]) -> str:
    """``happy 62%, sad 38%``: shares of the time on screen of one person, or of all; with the doubt there is."""
    share = {name: value for name, value in people["share"].items() if value >= 0.005}
    shares = ", ".join(f"{name} {value:.0%}" for name, value in sorted(share.items(), key=lambda item: -item[1]))
    return (
        f"mostly unsure ({people['sure_share']:.0%} of the time sure): {shares}" if people["mostly_unsure"] else shares
    )


def _as_json(done: AnalysisResult, recognizer: Recognizer) -> dict[str, Any]:
    from mien.analysis.output.writers import records_of
    from mien.core.types import FrameResult

    values = done.to_json()
    if not done.is_video:
        result = FrameResult(done.source, 0, 0.0, (0, 0), done.faces)
        values["records"] = records_of(result, recognizer.model_name, recognizer.detector_name)
    return values
