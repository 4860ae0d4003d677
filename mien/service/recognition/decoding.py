"""Bytes of a picture → pixels, in processes that may die of them."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np

from mien.service.config import Limits
from mien.service.errors import Refused
from mien.service.recognition.decoder import ANSWER, GOOD, LAST, REQUEST

#: Decoders do one thing at a time: threads of the libraries would only take memory.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def child_environment(**more: str) -> dict[str, str]:
    """The environment of a process of ours, which finds this very package."""
    from mien import __file__ as package

    root = os.path.dirname(os.path.dirname(os.path.abspath(package)))  # noqa: PTH100, PTH120 - a plain string is wanted
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path} | more


class _Process:
    """One decoder and its pipes."""

    def __init__(self, limits: Limits) -> None:
        self.used_up = False  # it said so: it ends
        command = [sys.executable, "-m", "mien.service.recognition.decoder", str(limits.decode_bytes)]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            env=child_environment(**ONE_THREAD),
        )  # fmt: skip
        self.pid = self._child.pid

    def ask(self, data: bytes, most_pixels: int) -> tuple[int, int] | dict[str, Any]:
        """(height, width) of the picture that ``pixels`` then gives, or the error. EOFError where the process died."""
        try:
            self._child.stdin.write(REQUEST.pack(len(data), most_pixels))
            rest = memoryview(data)
            while rest:
                rest = rest[self._child.stdin.write(rest) :]
        except OSError as error:
            raise EOFError from error
        kind, first, second = ANSWER.unpack(self._read(ANSWER.size))
        if kind == GOOD:
            return first, second
        self.used_up = kind == LAST
        return json.loads(bytes(self._read(first)))

    def pixels(self, height: int, width: int) -> np.ndarray:
        picture = np.empty((height, width, 3), np.uint8)
        self._fill(memoryview(picture).cast("B"))
        return picture

    def _read(self, length: int) -> bytearray:
        data = bytearray(length)
        self._fill(memoryview(data))
        return data

    def _fill(self, place: memoryview) -> None:
        while place:
            count = self._child.stdout.readinto(place)
            if not count:
                raise EOFError
            place = place[count:]

    @property
    def alive(self) -> bool:
        return not self.used_up and self._child.poll() is None

    def kill(self) -> None:
        with suppress(OSError):
            self._child.kill()

    def close(self) -> None:
        self.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            with suppress(OSError):
                pipe.close()
        self._child.wait()


class Decoders:
    """``count`` decoders that are started again when they die, and a budget for what they have decoded.

    ``replaced`` counts those that died or were ended; ``watch`` is called for each.
    """

    def __init__(self, count: int, limits: Limits, watch: Callable[[], None] = lambda: None) -> None:
        self.replaced, self._watch = 0, watch
        self._limits = limits
        self._threads = ThreadPoolExecutor(count, "decode")
        self._free: queue.SimpleQueue[_Process | None] = queue.SimpleQueue()
        self._count = count
        self._room = threading.Condition()
        self._held = 0
        for _ in range(count):
            self._free.put(None)

    def start(self) -> None:
        """Start the processes before they are needed; one that cannot be is tried again when it is."""
        ready = []
        for _ in range(self._count):
            with suppress(Refused):
                ready.append(self._living())
        for process in ready:
            self._free.put(process)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        while not self._free.empty():
            process = self._free.get()
            if process is not None:
                process.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the decoders that wait for work."""
        idle = [self._free.get() for _ in range(self._free.qsize())]
        for process in idle:
            self._free.put(process)
        return [process.pid for process in idle if process is not None]

    @asynccontextmanager
    async def decoded(self, data: bytes, name: str) -> AsyncIterator[np.ndarray]:
        """RGB uint8 (H, W, 3), upright; it counts as held until the block ends. Refused (422, 413) where it cannot be."""
        job = self._threads.submit(self._decode, data, name)
        try:
            picture = await asyncio.wrap_future(job)
        except asyncio.CancelledError:  # nobody waits any more, but the thread goes on and takes room
            job.add_done_callback(self._release_unwanted)
            raise
        size = picture.nbytes
        try:
            yield picture
        finally:
            self._release(size)

    def _decode(self, data: bytes, name: str) -> np.ndarray:
        process = self._living()
        timer = threading.Timer(self._limits.decode_s, process.kill)
        timer.daemon = True
        timer.start()
        emptied = False  # whether nothing of this picture is left in the pipe: the next one must not be given it
        try:
            size = process.ask(data, self._limits.picture_pixels)
            timer.cancel()  # what comes now waits for room, not for the decoder
            if isinstance(size, dict):
                emptied = True
                raise _refusal(name, size)
            picture = self._pixels(process, *size)
            emptied = True
            return picture
        except EOFError as error:
            found = "could not be decoded: it took too much time or memory, or is broken"
            hint = "copy or export it again, or send a smaller one"
            raise Refused(422, "cannot_be_decoded", name, found, hint) from error
        finally:
            timer.cancel()
            if not emptied:
                self._bury(process)
            self._free.put(process if emptied else None)

    def _living(self) -> _Process:
        """The next decoder that has nothing to do, begun anew where it died. Refused (503) where none can be."""
        process = self._free.get()
        if process is not None and process.alive:
            return process
        self._bury(process)
        try:
            return _Process(self._limits)
        except OSError as error:
            self._free.put(None)
            found = f"cannot start what decodes pictures ({error.strerror})"
            raise Refused(503, "decoder_unavailable", "service", found, "try again in a while") from error

    def _pixels(self, process: _Process, height: int, width: int) -> np.ndarray:
        size = height * width * 3
        self._take(size)
        try:
            return process.pixels(height, width)
        except BaseException:
            self._release(size)
            raise

    def _release_unwanted(self, job: Future[np.ndarray]) -> None:
        if not job.cancelled() and job.exception() is None:
            self._release(job.result().nbytes)

    def _bury(self, process: _Process | None) -> None:
        if process is not None:
            process.close()
            self.replaced += 1
            self._watch()

    def _take(self, size: int) -> None:
        """Wait until so many bytes may be held. One picture alone may be larger than all the room."""
        with self._room:
            self._room.wait_for(lambda: not self._held or self._held + size <= self._limits.decoded_bytes)
            self._held += size

    def _release(self, size: int) -> None:
        with self._room:
            self._held -= size
            self._room.notify_all()


def _refusal(name: str, error: dict[str, Any]) -> Refused:
    """The decoder's error as an answer; its hints speak of options of the program, which are of no use here."""
    code, found, parameters = error["code"], error["problem"], error["parameters"]
    if code == "too_many_pixels":
        return Refused(413, code, name, found, "send a smaller one", **parameters)
    first, _, other = error["hint"].partition(", or ")
    hint = first if "--" in other else error["hint"]
    return Refused(422, code, name, found, hint, **parameters)
