"""Decode pictures in child processes, so that a crash or too much memory ends only the child."""

from __future__ import annotations

import asyncio
import io
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import numpy as np

from mien.service.config import Limits
from mien.service.errors import RequestError, drop_parameters
from mien.service.recognition.decoder import ANSWER, DECODED, EXHAUSTED, REQUEST

#: Decoders do one thing at a time: threads of the libraries would only take memory.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def make_child_environment(**more: str) -> dict[str, str]:
    """Return the environment of a child process that imports this very package."""
    from mien import __file__ as package

    root = os.path.dirname(os.path.dirname(os.path.abspath(package)))  # noqa: PTH100, PTH120 - a plain string is wanted
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path} | more


class _Process:
    """One decoder and its pipes."""

    def __init__(self, limits: Limits) -> None:
        self.is_exhausted = False  # it said so: it ends
        command = [sys.executable, "-m", "mien.service.recognition.decoder", str(limits.decode_bytes)]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            env=make_child_environment(**ONE_THREAD),
        )  # fmt: skip
        assert self._child.stdin is not None and self._child.stdout is not None  # they are pipes
        # Without a buffer both are files of the system, which read and write as much as there is room for.
        self._input, self._output = cast(io.FileIO, self._child.stdin), cast(io.FileIO, self._child.stdout)
        self.pid = self._child.pid

    def send_picture(self, data: bytes, most_pixels: int) -> tuple[int, int] | dict[str, Any]:
        """Return (height, width) of the picture that ``receive_pixels`` then gives, or the error. Raises EOFError if
        the process died."""
        try:
            self._input.write(REQUEST.pack(len(data), most_pixels))
            rest = memoryview(data)
            while rest:
                rest = rest[self._input.write(rest) :]
        except OSError as error:
            raise EOFError from error
        kind, first, second = ANSWER.unpack(self._read(ANSWER.size))
        if kind == DECODED:
            return first, second
        self.is_exhausted = kind == EXHAUSTED
        return json.loads(bytes(self._read(first)))

    def receive_pixels(self, height: int, width: int) -> np.ndarray:
        picture = np.empty((height, width, 3), np.uint8)
        self._read_into(picture.data.cast("B"))
        return picture

    def _read(self, length: int) -> bytearray:
        data = bytearray(length)
        self._read_into(memoryview(data))
        return data

    def _read_into(self, place: memoryview) -> None:
        while place:
            count = self._output.readinto(place)
            if not count:
                raise EOFError
            place = place[count:]

    @property
    def is_alive(self) -> bool:
        return not self.is_exhausted and self._child.poll() is None

    def kill(self) -> None:
        with suppress(OSError):
            self._child.kill()

    def close(self) -> None:
        self.kill()
        for pipe in (self._input, self._output):
            with suppress(OSError):
                pipe.close()
        self._child.wait()


class Decoders:
    """``count`` decoder processes that are restarted when they die, and a budget for the decoded pixels.

    ``replaced`` counts those that died or were ended; ``on_replaced`` is called for each.
    """

    def __init__(self, count: int, limits: Limits, on_replaced: Callable[[], None] = lambda: None) -> None:
        self.replaced, self._on_replaced = 0, on_replaced
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
            with suppress(RequestError):
                ready.append(self._take_process())
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
        """Return the process IDs of the idle decoders."""
        idle = [self._free.get() for _ in range(self._free.qsize())]
        for process in idle:
            self._free.put(process)
        return [process.pid for process in idle if process is not None]

    @asynccontextmanager
    async def decode_picture(self, data: bytes, name: str) -> AsyncIterator[np.ndarray]:
        """Return RGB uint8 (H, W, 3), upright. It counts as held until the block ends. Raises RequestError (422, 413)."""
        job = self._threads.submit(self._decode, data, name)
        try:
            picture = await asyncio.wrap_future(job)
        except asyncio.CancelledError:  # nobody waits any more, but the thread goes on and takes room
            job.add_done_callback(self._release_abandoned_picture)
            raise
        size = picture.nbytes
        try:
            yield picture
        finally:
            self._release_bytes(size)

    def _decode(self, data: bytes, name: str) -> np.ndarray:
        process = self._take_process()
        timer = threading.Timer(self._limits.decode_s, process.kill)
        timer.daemon = True
        timer.start()
        emptied = False  # whether nothing of this picture is left in the pipe: the next one must not be given it
        try:
            size = process.send_picture(data, self._limits.picture_pixels)
            timer.cancel()  # what comes now waits for room, not for the decoder
            if isinstance(size, dict):
                emptied = True
                raise _make_request_error(name, size)
            picture = self._receive_pixels(process, *size)
            emptied = True
            return picture
        except EOFError as error:
            problem = "could not be decoded: it took too much time or memory, or is broken"
            hint = "copy or export it again, or send a smaller one"
            raise RequestError(422, "cannot_be_decoded", name, problem, hint) from error
        finally:
            timer.cancel()
            if not emptied:
                self._discard_process(process)
            self._free.put(process if emptied else None)

    def _take_process(self) -> _Process:
        """Return the next idle decoder, restarted if it died. Raises RequestError (503) if none can be started."""
        process = self._free.get()
        if process is not None and process.is_alive:
            return process
        self._discard_process(process)
        try:
            return _Process(self._limits)
        except OSError as error:
            self._free.put(None)
            problem = f"cannot start what decodes pictures ({error.strerror})"
            raise RequestError(503, "decoder_unavailable", "service", problem, "try again in a while") from error

    def _receive_pixels(self, process: _Process, height: int, width: int) -> np.ndarray:
        size = height * width * 3
        self._reserve_bytes(size)
        try:
            return process.receive_pixels(height, width)
        except BaseException:
            self._release_bytes(size)
            raise

    def _release_abandoned_picture(self, job: Future[np.ndarray]) -> None:
        if not job.cancelled() and job.exception() is None:
            self._release_bytes(job.result().nbytes)

    def _discard_process(self, process: _Process | None) -> None:
        if process is not None:
            process.close()
            self.replaced += 1
            self._on_replaced()

    def _reserve_bytes(self, size: int) -> None:
        """Wait until so many bytes may be held. One picture alone may be larger than all the room."""
        with self._room:
            self._room.wait_for(lambda: not self._held or self._held + size <= self._limits.decoded_bytes)
            self._held += size

    def _release_bytes(self, size: int) -> None:
        with self._room:
            self._held -= size
            self._room.notify_all()


def _make_request_error(name: str, error: dict[str, Any]) -> RequestError:
    """Return the decoder's error as an answer. Parameters that its hint names mean nothing to a client."""
    code, problem, parameters = error["code"], error["problem"], error["parameters"]
    if code == "too_many_pixels":
        return RequestError(413, code, name, problem, "send a smaller one", **parameters)
    return RequestError(422, code, name, problem, drop_parameters(error["hint"]), **parameters)
