"""Analyze the inputs of `mien analyze` one after the other, and print the result of each."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from mien.analysis.manifest import Manifest
from mien.analysis.media.inputs import Input, assign_stems, describe_skipped, list_inputs
from mien.analysis.output.writers import make_records, record_path, record_writer
from mien.analysis.ownership import Ownership
from mien.analysis.people.identities import identities_path
from mien.analysis.people.records import iterate_rows
from mien.analysis.pipeline import analyze_input, discard_unfinished
from mien.analysis.recognizer import Recognizer
from mien.analysis.settings import AnalysisContext, AnalysisResult
from mien.cli.messages import format_error, format_table, pluralize, print_error
from mien.cli.supervision import begin_input, end_input
from mien.core.errors import MediaError, escape_controls
from mien.core.files import make_folder
from mien.core.locks import hold_lock
from mien.core.progress import echo, progress_bar
from mien.core.types import FrameResult

#: Pictures whose faces are printed one by one; of more, only a line each.
TABLES_SHOWN = 10


class GracefulStop:
    """Ctrl-C while a stream is analyzed: its outputs are finished, and no other input is begun."""

    def __init__(self) -> None:
        self._is_requested = False

    def is_requested(self) -> bool:
        """Return whether Ctrl-C was pressed during a stream."""
        return self._is_requested

    @contextmanager
    def handle_interrupt(self, item: Input) -> Iterator[None]:
        """Handle Ctrl-C while a stream is analyzed. With a file it ends the program; the same command continues."""
        if not item.is_stream:
            yield
            return

        def request_stop(*_: object) -> None:
            self._is_requested = True
            signal.signal(signal.SIGINT, before)  # a second Ctrl-C ends it at once

        before = signal.signal(signal.SIGINT, request_stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class Analysis:
    """All inputs, one after the other; each result or failure is printed at once.

    finished    what --json prints of each input
    failures    a message for each failed input, and one for all that were not begun
    not_done    how many inputs these are
    left_out    suffixes of unsupported pictures and videos in folders, counted

    ``crash`` is the signal by which the worker before this one crashed: this one continues behind the input that crashed.
    """

    manifest: Manifest | None
    ownership: Ownership

    def __init__(
        self,
        recognizer: Recognizer,
        context: AnalysisContext,
        resume: bool,
        show: bool,
        stop: GracefulStop,
        crash: str = "",
    ) -> None:
        self.recognizer, self.context, self.resume, self.show = recognizer, context, resume, show
        self.stop, self.crash = stop, crash
        self.finished: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.not_done = 0
        self.left_out: Counter[str] = Counter()

    def run(self, inputs: list[str]) -> None:
        out = self.context.out
        items = list_inputs(inputs, out, self.left_out)
        several = len(items) > 1
        make_folder(out)
        self.ownership = Ownership(out, self._fingerprint())
        with ExitStack() as stack:
            stack.callback(self.ownership.remove_unused)
            self.manifest = None
            if several or self.resume:
                hint = "wait for it, or choose another folder with --out"
                stack.enter_context(hold_lock(out / ".manifest.lock", out, hint))
                self.manifest = Manifest(out, self._fingerprint(), self.resume or bool(self.crash), bool(self.crash))
                stack.callback(self.manifest.close)
                named = self.manifest.assign_stems(items, self.ownership.is_free)
            else:
                named = assign_stems(items, is_free=self.ownership.is_free)
            self._print_renamed(items, named)
            restored = self._restore_state(named)
            self._analyze_all(named[restored:], restored, len(named))
            if self.left_out and self.finished:  # without, the folder's error says it
                print_error(describe_skipped(self.left_out))
            if several and self.finished:
                self._write_joint_table()
            if self.manifest is not None:
                if not self.finished:
                    self.manifest.remove(named)
                elif not self.stop.is_requested():
                    self.manifest.mark_ended()

    def _analyze_all(self, items: list[Input | MediaError], restored: int, count: int) -> None:
        with progress_bar("files", count, restored, quiet=self.context.quiet or count == 1) as bar:
            for done, item in enumerate(items, start=restored + 1):
                self._analyze_one(item)
                bar.advance(1, f"{len(self.finished):,} done, {len(self.failures):,} failed")
                if self.stop.is_requested() and done < count:
                    left = count - done
                    self._record_failure(f"stopped: {left:,} of {count:,} inputs were not begun", left)
                    break

    def _print_renamed(self, items: list[Input | MediaError], named: list[Input | MediaError]) -> None:
        """Print which inputs get outputs of another name, because another input owns the usual one."""
        for item, now in zip(items, named, strict=True):
            if isinstance(item, MediaError) or isinstance(now, MediaError) or item.stem == now.stem or self.crash:
                continue
            owner = None if self.ownership.is_free(item.stem, item) else self.ownership.find_owner(item.stem)
            if owner is not None:
                print_error(
                    f"{item.name}: its outputs are named {now.stem}.*, since {item.stem}.* are those of {owner}"
                )

    def _restore_state(self, items: list[Input | MediaError]) -> int:
        """Restore the results of the inputs before a crash, and return how many inputs these are, the crashed one included."""
        if not self.crash:
            return 0
        lines = [
            {} if self.manifest is None or isinstance(item, MediaError) else self.manifest.latest_entry(item)
            for item in items
        ]
        started = [
            number
            for number, line in enumerate(lines)
            if line.get("state", "begun" if len(items) == 1 else "") == "begun"
        ]
        if not started:
            raise MediaError("mien analyze", f"crashed ({self.crash})", "report it, with the command")
        crashed = started[0]
        for item, line in zip(items[:crashed], lines, strict=False):
            if "done" in line:
                self.finished.append(line["done"])
            else:
                self._record_failure(
                    format_error(item) if isinstance(item, MediaError) else line["why"], is_printed=True
                )
        item = items[crashed]
        assert not isinstance(item, MediaError)  # only an input is begun
        self._record_crash(item)
        return crashed + 1

    def _record_crash(self, item: Input) -> None:
        is_short = self.crash == "SIGKILL"  # of memory: nothing is wrong with the input
        discard_unfinished(self.context.out / item.stem, keep_parts=is_short)
        if is_short:
            problem = "was not finished: the system ended it, probably because memory ran out (SIGKILL)"
            hint = "finished work is kept: the same command continues it with more memory"
        else:
            problem = f"cannot be analyzed: a decoder crashed ({self.crash})"
            hint = "convert it with another program"
        why = f"{item.name}: {problem}; {hint}"
        self._record_failure(why)
        if self.manifest is not None:
            self.manifest.add_result(item, state="failed" if is_short else "crashed", why=why, outputs=[])

    def _fingerprint(self) -> dict[str, Any]:
        """Return what the results depend on beside the inputs."""
        return {**self.recognizer.fingerprint(), "options": self.context.options.output_choices()}

    def _analyze_one(self, item: Input | MediaError) -> None:
        if isinstance(item, MediaError):
            self._record_failure(format_error(item))
            return
        if self.manifest is not None:
            if self._is_known(item, self.manifest):
                return
            self.manifest.mark_begun(item)
        begin_input()
        try:
            with self.stop.handle_interrupt(item):
                done = analyze_input(item, self.recognizer, self.context, begin=self.ownership.claim_stem)
        except Exception as error:  # noqa: BLE001 - one bad file must not cost the others their results
            self._record_failure(format_error(error, f"{item.name}: "))
            if self.manifest is not None:
                self.manifest.add_result(item, state="failed", why=self.failures[-1], outputs=[])
            end_input(is_finished=False)
            return
        self._record_result(item, done)
        end_input(is_finished=True)

    def _is_known(self, item: Input, manifest: Manifest) -> bool:
        """Return whether an earlier run knows the result of an input; print it then."""
        before = manifest.find_finished(item)
        if before is not None and "done" in before:
            self.finished.append(before["done"])
            if self.show:
                echo(f"{escape_controls(item.name)}: done before")
            for warning in before["done"]["warnings"]:  # the exit code speaks of them too
                print_error(f"{item.name}: {warning}")
            return True
        line = manifest.find_entry(item)
        if line is None or line["state"] != "crashed":
            return False
        self._record_failure(f"{line['why']} (known from an earlier run)")
        return True

    def _record_result(self, item: Input, done: AnalysisResult) -> None:
        values = _to_json(done, self.recognizer)
        self.finished.append(values)
        if self.manifest is not None:
            self.manifest.add_result(item, state="done", outputs=values["outputs"], done=values)
        for warning in done.warnings:
            print_error(f"{done.source}: {warning}")
        if old := self.ownership.record_outputs(item, done.outputs):
            print_error(
                f"{done.source}: {', '.join(map(str, old))} beside its outputs come from an earlier run with other settings"
            )
        people = identities_path(record_path(self.context.out / item.stem, self.context.options.formats[0]))
        if item.is_video and people.exists():
            print_error(
                f"{done.source}: {people} corrects the people of an earlier analysis; check it with 'mien people', or remove it"
            )
        if self.show:
            if len(self.finished) == TABLES_SHOWN + 1:
                echo("one line for each of the others; the records hold all faces")
            _print(done, self.recognizer, in_full=len(self.finished) <= TABLES_SHOWN)

    def _record_failure(self, why: str, inputs: int = 1, is_printed: bool = False) -> None:
        self.failures.append(why)
        self.not_done += inputs
        if not is_printed:
            print_error(why)

    def _write_joint_table(self) -> None:
        """Write the records of all inputs into one table; they are read back from their files."""
        out, formats = self.context.out, self.context.options.formats
        with record_writer(out / "all", formats, self.recognizer.labels) as table:
            for done in self.finished:
                (own,) = (path for path in done["outputs"] if path.endswith(f".records.{formats[0]}"))
                for rows in iterate_rows(own):
                    table.write(rows)
        if self.show:
            paths = ", ".join(str(record_path(out / "all", name)) for name in formats)
            echo(f"all records in one table: {paths}")


def _print(done: AnalysisResult, recognizer: Recognizer, in_full: bool) -> None:
    """Print a table of the faces of a picture, or lines for a video; then what was written."""
    source = escape_controls(done.source)
    if done.faces and in_full:
        echo(f"{source}: {pluralize(len(done.faces), 'face')}")
        echo(_face_table(done, recognizer))
    elif done.is_video:
        shares = f": {_format_shares(done.totals)}" if done.people else ""
        echo(f"{source}: {pluralize(done.frames, 'frame')}, {pluralize(done.faces_seen, 'face')}{shares}")
        _print_people(done)
    elif done.faces:
        echo(f"{source}: " + ", ".join(f"{face.label} {face.confidence:.0%}" for face in done.faces))
    else:
        hint = "" if recognizer.detector.is_whole_picture else " (if the picture is itself a face: --detector none)"
        echo(f"{source}: no face found{hint}")
    if in_full:
        echo("  wrote " + ", ".join(escape_controls(str(path)) for path in done.outputs))


def _face_table(done: AnalysisResult, recognizer: Recognizer) -> str:
    """Return a table of the faces of a picture with every probability."""
    rows = [["face", "expression", *recognizer.labels, "x1", "y1", "x2", "y2"]]
    rows += [
        [
            str(number),
            f"{face.label}{'?' if face.is_unsure else ''}",
            *(f"{p:.3f}" for p in face.probabilities),
            *(f"{v:.0f}" for v in face.box_xyxy),
        ]
        for number, face in enumerate(done.faces)
    ]
    return format_table(rows, left=(1,), indent="  ")


#: People of a video that are printed; the summary has all.
MOST_LISTED = 8


def _print_people(done: AnalysisResult) -> None:
    """Print a line for each person, the longest on screen first; then one for tracks that are probably not faces."""
    for person in done.people[:MOST_LISTED]:
        echo(
            f"  person {person['person']}: {person['on_screen_s']:.1f} s on screen from {person['first_s']:.1f} s, "
            f"{pluralize(person['changes'], 'change')}: {_format_shares(person)}"
        )
    if len(done.people) > MOST_LISTED:
        echo(f"  and {len(done.people) - MOST_LISTED:,} more")
    if done.not_faces:
        names = ", ".join(str(one["person"]) for one in done.not_faces[:MOST_LISTED])
        more = f" and {len(done.not_faces) - MOST_LISTED:,} more" if len(done.not_faces) > MOST_LISTED else ""
        echo(f"  probably not a face, not counted: {names}{more}")


def _format_shares(people: dict[str, Any]) -> str:
    """Return the shares of the time on screen, as in ``happy 62%, sad 38%``, and whether most of them are unsure."""
    share = {name: value for name, value in people["share"].items() if value >= 0.005}
    shares = ", ".join(f"{name} {value:.0%}" for name, value in sorted(share.items(), key=lambda item: -item[1]))
    return (
        f"mostly unsure ({people['sure_share']:.0%} of the time sure): {shares}" if people["mostly_unsure"] else shares
    )


def _to_json(done: AnalysisResult, recognizer: Recognizer) -> dict[str, Any]:
    values = done.to_json()
    if not done.is_video:
        result = FrameResult(done.source, 0, 0.0, (0, 0), done.faces)
        values["records"] = make_records(result, recognizer.model_name, recognizer.detector_name)
    return values
