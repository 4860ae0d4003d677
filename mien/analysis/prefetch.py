"""Pipeline stages in threads: prefetched items, parallel calls and background calls, all in order.

Decoding, networks and encoding release the GIL, so that threads keep all cores busy.
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

#: Marks the end of a queue. It is an object of its own, since an item may be None.
_END = object()


@contextmanager
def prefetch_items(items: Iterable[T], max_items: int, *, keep_newest: bool = False) -> Iterator[Iterator[T]]:
    """Iterate over ``items`` in a background thread, and yield an iterator over them.

    max_items     maximum number of items in the queue
    keep_newest   for live frames: if the queue is full, drop its oldest item instead of waiting

    An error of ``items`` is raised at the position of the item that failed. Leaving the block ends the thread after its
    current item.
    """
    waiting: queue.Queue[Any] = queue.Queue(max_items)
    stop = threading.Event()
    failure: list[BaseException] = []

    def produce() -> None:
        try:
            for item in items:
                if not _put_item(waiting, item, stop, keep_newest):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again in the consuming thread
            failure.append(error)
        _put_item(waiting, _END, stop, newest=False)

    def consume() -> Iterator[T]:
        while (item := waiting.get()) is not _END:
            yield item
        if failure:
            raise failure[0]

    thread = threading.Thread(target=produce, name="mien-prefetch", daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        stop.set()
        thread.join()


def parallel_map(action: Callable[[T], R], items: Iterable[T], max_workers: int) -> Generator[R]:
    """Yield ``action(item)`` for each item, in order, while threads process up to ``max_workers`` further items.

    With ``max_workers=0`` an item is processed when the caller asks for it. An error of ``items`` or of ``action`` is raised
    at the position of its item. Close the generator to end the threads early.
    """
    with ThreadPoolExecutor(max(1, max_workers), "mien-parallel") as pool:
        waiting: deque[Future[R]] = deque()
        items, ended = iter(items), False
        while not ended or waiting:
            while not ended and len(waiting) <= max_workers:
                try:
                    waiting.append(pool.submit(action, next(items)))
                except StopIteration:
                    ended = True
                except BaseException as error:  # noqa: BLE001 - raised again after the items before it
                    waiting.append(_failed_future(error))
                    ended = True
            if waiting:
                yield waiting.popleft().result()


def _failed_future(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _put_item(waiting: queue.Queue[Any], item: object, stop: threading.Event, newest: bool) -> bool:
    """Put an item into the queue; return False if ``stop`` is set. With ``newest``, drop the oldest item of a full queue."""
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
    except queue.Empty:  # the consumer took it meanwhile
        return None


def threads_per_stage() -> int:
    """Return the threads of one of the four stages of an analysis: a quarter of the cores of this process, at least 1."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux only
    return max(1, (len(allowed(0)) if allowed else os.cpu_count() or 1) // 4)


class _OpenCVThreads:
    """The process-wide setting: how many blocks limit OpenCV's threads, and its threads before the first of them."""

    lock = threading.Lock()
    active_blocks = 0
    original_count = 0


@contextmanager
def limit_opencv_threads() -> Iterator[None]:
    """Limit OpenCV to the threads of one stage within the block: more would compete with the other stages."""
    with _OpenCVThreads.lock:
        if not _OpenCVThreads.active_blocks:
            _OpenCVThreads.original_count = cv2.getNumThreads()
            cv2.setNumThreads(min(_OpenCVThreads.original_count, threads_per_stage()))
        _OpenCVThreads.active_blocks += 1
    try:
        yield
    finally:
        with _OpenCVThreads.lock:
            _OpenCVThreads.active_blocks -= 1
            if not _OpenCVThreads.active_blocks:
                cv2.setNumThreads(_OpenCVThreads.original_count)


class BackgroundWriter:
    """Execute calls in a background thread, in order.

    ``max_waiting`` calls may wait; then ``submit`` blocks. The next ``submit`` or ``flush`` raises the error of a call, and the
    calls after it are dropped.
    """

    def __init__(self, max_waiting: int) -> None:
        self._waiting: queue.Queue[Any] = queue.Queue(max_waiting)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run_calls, name="mien-background", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[..., object], *arguments: object) -> None:
        """Queue ``call(*arguments)``."""
        self._raise_error()
        self._waiting.put((call, arguments))

    def flush(self) -> None:
        """Wait until all submitted calls are done."""
        self._waiting.join()
        self._raise_error()

    def close(self) -> None:
        """End the thread after its current call; drop the calls that wait."""
        self._failure = self._failure or RuntimeError("closed")
        self._waiting.put(_END)
        self._thread.join()

    def _raise_error(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run_calls(self) -> None:
        while (item := self._waiting.get()) is not _END:
            call, arguments = item
            if self._failure is None:
                try:
                    call(*arguments)
                except BaseException as error:  # noqa: BLE001 - raised again in the submitting thread
                    self._failure = error
            self._waiting.task_done()
