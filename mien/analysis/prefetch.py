"""Work that goes on at the same time: what is read ahead, what is worked on several at once, what is written behind; in order.

Decoding, networks and encoding leave Python while they work, so threads are enough to keep every core busy.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import cv2

T = TypeVar("T")
R = TypeVar("R")

#: Ends a queue. An object of its own, since None may be among the items.
_END = object()


@contextmanager
def prefetch_items(items: Iterable[T], most: int, *, newest: bool = False) -> Iterator[Iterator[T]]:
    """The same items, made in a thread that is up to ``most`` of them ahead.

    ``newest`` is for live pictures: where the reader of the items is slow, the oldest waiting one is thrown away, so that
    what it gets is never old. An error of ``items`` is raised where its next item would have come. Leaving the block ends
    the thread, after the item that it is making.
    """
    waiting: queue.Queue[Any] = queue.Queue(most)
    stop = threading.Event()
    failure: list[BaseException] = []

    def make() -> None:
        try:
            for item in items:
                if not _put_item(waiting, item, stop, newest):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that reads
            failure.append(error)
        _put_item(waiting, _END, stop, newest=False)

    def read() -> Iterator[T]:
        while (item := waiting.get()) is not _END:
            yield item
        if failure:
            raise failure[0]

    thread = threading.Thread(target=make, name="mien-ahead", daemon=True)
    thread.start()
    try:
        yield read()
    finally:
        stop.set()
        thread.join()


def parallel_map(action: Callable[[T], R], items: Iterable[T], most: int) -> Generator[R]:
    """``action`` of each item, in order; up to ``most`` are worked on, each in a thread, while the caller uses the one before.

    With 0 none is: an item is worked on when it is asked for, and comes at once. An error of ``items`` or of ``action`` is
    raised where the item would have come. To end the threads early, close the generator.
    """
    with ThreadPoolExecutor(max(1, most), "mien-several") as pool:
        waiting: deque[Future[R]] = deque()
        items, ended = iter(items), False
        while not ended or waiting:
            while not ended and len(waiting) <= most:
                try:
                    waiting.append(pool.submit(action, next(items)))
                except StopIteration:
                    ended = True
                except BaseException as error:  # noqa: BLE001 - raised again behind what came before it
                    waiting.append(_failed_future(error))
                    ended = True
            if waiting:
                yield waiting.popleft().result()


def _failed_future(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _put_item(waiting: queue.Queue[Any], item: object, stop: threading.Event, newest: bool) -> bool:
    """Wait for room, or make it; False when it is no longer wanted."""
    while not stop.is_set():
        try:
            waiting.put(item, timeout=0 if newest else 0.1)
            return True
        except queue.Full:
            if newest:
                _drop_oldest(waiting)
    return False


def _drop_oldest(waiting: queue.Queue[Any]) -> object:
    try:
        return waiting.get_nowait()
    except queue.Empty:  # its reader was quicker
        return None


def threads_per_stage() -> int:
    """Threads of one of the four stages of footage, at least one; of the cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux has it
    return max(1, (len(allowed(0)) if allowed else os.cpu_count() or 1) // 4)


class _OpenCVThreads:
    """How many analyses want few threads of OpenCV, and how many it had before the first: the setting is the process's."""

    lock = threading.Lock()
    wanted = 0
    before = 0


@contextmanager
def limit_opencv_threads() -> Iterator[None]:
    """Where every core has its stage already, OpenCV's own threads only get in each other's way."""
    with _OpenCVThreads.lock:
        if not _OpenCVThreads.wanted:
            _OpenCVThreads.before = cv2.getNumThreads()
            cv2.setNumThreads(min(_OpenCVThreads.before, threads_per_stage()))
        _OpenCVThreads.wanted += 1
    try:
        yield
    finally:
        with _OpenCVThreads.lock:
            _OpenCVThreads.wanted -= 1
            if not _OpenCVThreads.wanted:
                cv2.setNumThreads(_OpenCVThreads.before)


class BackgroundWriter:
    """Calls that are made in a thread, one after the other, while the caller goes on; up to ``most`` wait.

    An error of a call is raised by the next ``do`` or by ``wait``; the calls after it are not made.
    """

    def __init__(self, most: int) -> None:
        self._waiting: queue.Queue[Any] = queue.Queue(most)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="mien-behind", daemon=True)
        self._thread.start()

    def do(self, call: Callable[..., object], *arguments: object) -> None:
        """Have it called soon."""
        self._raise()
        self._waiting.put((call, arguments))

    def wait(self) -> None:
        """Until all that was asked for is done."""
        self._waiting.join()
        self._raise()

    def close(self) -> None:
        """End the thread after what it is doing; what still waits is dropped."""
        self._failure = self._failure or RuntimeError("closed")
        self._waiting.put(_END)
        self._thread.join()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while (item := self._waiting.get()) is not _END:
            call, arguments = item
            if self._failure is None:
                try:
                    call(*arguments)
                except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
                    self._failure = error
            self._waiting.task_done()
