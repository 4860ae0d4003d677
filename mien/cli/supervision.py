"""A crash of a decoder costs its input alone: the program works in a child process, which is begun anew after a crash.

A crash outside of any input would come again with the next child: it ends the program.

The child is forked before anything heavy is imported, which takes about a millisecond. Where there is no fork (Windows) the
program works in its own process, and a crash ends it.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
from contextlib import suppress

from mien.cli.messages import print_error

#: How a process ends that a library has crashed, or the system for want of memory.
CRASHES = tuple(
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGSYS", "SIGKILL")
    if hasattr(signal, name)
)

#: What is passed on to the child, which is no longer in the terminal's foreground group.
_PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


#: Where the child is, in memory that it shares with its parent; its exit code once it is over; whether an input was finished.
_NO_INPUT, _AT_INPUT, _OVER = 0, 1, 2
_told = mmap.mmap(-1, 3)

_crash = ""


def last_crash() -> str:
    """Return the name of the signal by which the child process before this one crashed, as in ``SIGSEGV``; "" without one."""
    return _crash


def begin_input() -> None:
    """From now on a crash is that of an input: the next child goes on behind it."""
    _told[0] = _AT_INPUT


def end_input(is_finished: bool) -> None:
    """What became of the input is known and told."""
    _told[0] = _NO_INPUT
    _told[2] |= is_finished


def is_over(code: int) -> None:
    """All is done and printed: the program ends with this exit code, even if a library crashes at the end of the process."""
    _told[1], _told[0] = code, _OVER


def go_on_in_child() -> None:
    """Go on in a child process: only there this returns.

    The process that called it waits, passes signals on, forks again after a crash of an input, and exits as the last child
    did.
    """
    global _crash
    while hasattr(os, "fork"):
        sys.stdout.flush()
        sys.stderr.flush()
        _told[0] = _NO_INPUT
        alive, held = os.pipe()
        child = os.fork()
        if not child:
            os.close(held)
            _become_child(alive)
            return
        os.close(alive)
        try:
            code = _wait(child)
        finally:
            os.close(held)
        if code >= 0 or -code not in CRASHES:
            sys.exit(code if code >= 0 else 128 - code)
        _crash = signal.Signals(-code).name
        _go_on_after_crash()


def _go_on_after_crash() -> None:
    """Only where the crash was that of an input this returns."""
    if sys.stderr.isatty():  # a bar hides the cursor
        sys.stderr.write("\x1b[?25h\r\x1b[K")
    if _told[0] == _OVER:
        sys.exit(_told[1])
    if _told[0] == _NO_INPUT:
        hint = "end other programs and try again" if _crash == "SIGKILL" else "report it, with the command"
        print_error(f"mien analyze: crashed ({_crash}) outside of any input; {hint}")
        sys.exit(1 if _told[2] else 2)


def _become_child(alive: int) -> None:
    """A group of its own, so that Ctrl-C comes once, through the parent; and an end when the parent ends."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # it may still write to the terminal

    def watch() -> None:
        os.read(alive, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch parent").start()


def _wait(child: int) -> int:
    """Wait for the child; its exit code, or minus the signal that ended it."""

    def pass_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    def stop(number: int, _: object) -> None:
        pass_on(signal.SIGSTOP, None)
        os.kill(os.getpid(), signal.SIGSTOP)  # returns when the shell says `fg` or `bg`
        pass_on(signal.SIGCONT, None)

    handlers = dict.fromkeys(_PASSED_ON, pass_on) | {"SIGTSTP": stop}
    before = {}
    for name, handler in handlers.items():
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:  # as with nohup, or in the background of a script
            before[number] = signal.signal(number, handler)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
