"""Reading ahead and writing writer: order, errors, an early end, and what is thrown away of live pictures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import cv2
import pytest

from mien.analysis.prefetch import BackgroundWriter, limit_opencv_threads, parallel_map, prefetch_items


def test_items_come_in_order_and_are_made_ahead() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    with prefetch_items(items(), 3) as numbers:
        assert next(numbers) == 0
        deadline = time.monotonic() + 300
        while len(made) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert made == [0, 1, 2, 3, 4]  # one was taken, three wait, one is in the hand
        assert list(numbers) == list(range(1, 10))


def test_an_error_comes_where_its_item_would_have() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken here")

    with prefetch_items(items(), 2) as numbers:
        assert next(numbers) == 1
        with pytest.raises(ValueError, match="broken here"):
            next(numbers)


def test_leaving_early_ends_the_thread() -> None:
    before = threading.active_count()
    with prefetch_items(iter(range(1000)), 2) as numbers:
        assert next(numbers) == 0
    assert threading.active_count() == before


def test_of_live_pictures_the_newest_wait() -> None:
    shown, ended = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        shown.wait(300)
        yield from range(1, 101)
        ended.set()

    with prefetch_items(items(), 1, keep_newest=True) as numbers:
        assert next(numbers) == 0
        shown.set()
        assert ended.wait(300)  # a slow reader
        rest = list(numbers)
    assert rest == [100]


def test_several_are_worked_on_at_once_and_come_in_order() -> None:
    both = threading.Barrier(2)  # passed only by two at once

    def action(number: int) -> int:
        if number < 2:
            both.wait(300)
        time.sleep(0.02 if number % 2 == 0 else 0)  # the earlier of two is the slower
        return number * number

    assert list(parallel_map(action, range(7), 2)) == [0, 1, 4, 9, 16, 25, 36]


def test_with_none_at_once_an_item_is_made_only_when_it_is_asked_for() -> None:
    made = []
    numbers = parallel_map(lambda number: number, (made.append(number) or number for number in range(5)), 0)
    for number in range(5):
        assert next(numbers) == number
        assert made == list(range(number + 1))


@pytest.mark.parametrize("most", [0, 1, 3])
def test_what_came_before_an_error_still_comes(most: int) -> None:
    def items() -> Iterator[int]:
        yield from range(4)
        raise OSError("the disk is gone")

    got = []
    with pytest.raises(OSError, match="the disk is gone"):
        for number in parallel_map(lambda number: number, items(), most):
            got.append(number)
    assert got == [0, 1, 2, 3]

    got.clear()
    with pytest.raises(ZeroDivisionError):
        for number in parallel_map(lambda number: 6 // (2 - number), range(5), most):
            got.append(number)
    assert got == [3, 6]


def test_closing_early_ends_the_threads() -> None:
    before = threading.active_count()
    numbers = parallel_map(lambda number: number, range(1000), 2)
    assert next(numbers) == 0
    numbers.close()
    assert threading.active_count() == before


def test_calls_are_made_in_order_while_the_caller_goes_on() -> None:
    done: list[int] = []
    writer = BackgroundWriter(4)
    for number in range(20):
        writer.submit(done.append, number)
    writer.flush()
    writer.close()
    assert done == list(range(20))


def test_an_error_writer_is_raised_in_front_and_ends_the_calls() -> None:
    done: list[int] = []

    def fails() -> None:
        raise OSError("no space left")

    writer = BackgroundWriter(4)
    writer.submit(fails)
    writer.submit(done.append, 1)
    with pytest.raises(OSError, match="no space left"):
        writer.flush()
    with pytest.raises(OSError, match="no space left"):
        writer.submit(done.append, 2)
    writer.close()
    assert done == []


def test_opencv_has_its_threads_again_after_the_last_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.analysis.prefetch.threads_per_stage", lambda: 1)
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        first, second = limit_opencv_threads(), limit_opencv_threads()
        first.__enter__()
        second.__enter__()
        assert cv2.getNumThreads() == 1
        first.__exit__(None, None, None)
        assert cv2.getNumThreads() == 1
        second.__exit__(None, None, None)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
