"""Run the program in a worker process, so that a decoder that crashes fails its own input only.

After a crash of an input the next worker continues behind it. A crash outside of any input would come again: it ends the program.

The worker is forked before anything heavy is imported, which takes about a millisecond. Where there is no fork (Windows) the
program works in its own process, and a crash ends it.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mien.cli.messages import print_error

#: Signals that end a process when a library crashes, or when the system lacks memory.
CRASHES = tuple(
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGSYS", "SIGKILL")
    if hasattr(signal, name)
)

#: The worker is not in the terminal's foreground group: these are forwarded to it.
_FORWARDED_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


#: Shared by both processes: the state of the worker, its exit code when it has ended, whether an input was finished.
_NO_INPUT, _AT_INPUT, _ENDED = 0, 1, 2
_status = mmap.mmap(-1, 3)

_crash = ""


def last_crash() -> str:
    """Return the name of the signal by which the worker before this one crashed, as in ``SIGSEGV``; "" without one."""
    return _crash


def begin_input() -> None:
    """Record that an input is being analyzed: after a crash the next worker continues behind it."""
    _status[0] = _AT_INPUT


def end_input(is_finished: bool) -> None:
    """Record that the result of the input is known and printed."""
    _status[0] = _NO_INPUT
    _status[2] |= is_finished


def report_end(code: int) -> None:
    """Record that all is done: the program ends with this exit code, even if a library crashes while the process exits."""
    _status[1], _status[0] = code, _ENDED


def fork_worker() -> None:
    """Fork a worker process; the function returns in the worker only.

    The process that called it waits, forwards signals, forks again after a crash of an input, and exits as the last worker did.
    """
    global _crash
    while hasattr(os, "fork"):
        sys.stdout.flush()
        sys.stderr.flush()
        _status[0] = _NO_INPUT
        alive, held = os.pipe()
        child = os.fork()
        if not child:
            os.close(held)
            _detach_worker(alive)
            return
        os.close(alive)
        try:
            code = _wait_for_worker(child)
        finally:
            os.close(held)
        if code >= 0 or -code not in CRASHES:
            sys.exit(code if code >= 0 else 128 - code)
        _crash = signal.Signals(-code).name
        _handle_crash()


def _handle_crash() -> None:
    """Return after the crash of an input; after any other exit."""
    if sys.stderr.isatty():  # a bar hides the cursor
        sys.stderr.write("\x1b[?25h\r\x1b[K")
    if _status[0] == _ENDED:
        sys.exit(_status[1])
    if _status[0] == _NO_INPUT:
        hint = "end other programs and try again" if _crash == "SIGKILL" else "report it, with the command"
        print_error(f"mien analyze: crashed ({_crash}) outside of any input; {hint}")
        sys.exit(1 if _status[2] else 2)


def _detach_worker(alive: int) -> None:
    """Give the worker its own process group, so that Ctrl-C arrives once, and end it when its parent ends."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # it may still write to the terminal

    def watch() -> None:
        os.read(alive, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch parent").start()


def _wait_for_worker(child: int) -> int:
    """Wait for the worker; return its exit code, or minus the signal that ended it."""

    def pass_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    def stop(number: int, _: object) -> None:
        pass_on(signal.SIGSTOP, None)
        os.kill(os.getpid(), signal.SIGSTOP)  # returns when the shell says `fg` or `bg`
        pass_on(signal.SIGCONT, None)

    handlers: dict[str, Callable[[int, object], None]] = {"SIGTSTP": stop}
    handlers.update(dict.fromkeys(_FORWARDED_SIGNALS, pass_on))
    before: dict[int, Any] = {}
    for name, handler in handlers.items():
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:  # as with nohup, or in the background of a script
            before[number] = signal.signal(number, handler)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
