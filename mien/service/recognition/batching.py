"""Classify the crops of simultaneous requests in one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np

#: Crops of one batch: enough to use the network well, few enough that nobody waits long.
MAX_CROPS = 64


class Batcher:
    """Collect crops while a batch is in the network; they form the next batch.

    A request that is alone never waits. ``announce_request`` and ``withdraw_announcement`` count requests whose faces are
    still being detected: where there are some, a batch waits for them up to ``gather_s``.

    Args:
        classify: uint8 (N, S, S[, 3]) → float32 (N, K), run in ``executor``.
        on_batch: called with the number of requests and of crops of each batch.
    """

    def __init__(
        self,
        classify: Callable[[np.ndarray], np.ndarray],
        executor: Executor,
        on_batch: Callable[[int, int], None] = lambda requests, crops: None,
        gather_s: float = 0.003,
    ) -> None:
        self._classify, self._executor, self._on_batch, self._gather_s = classify, executor, on_batch, gather_s
        self._waiting: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = []
        self._task: asyncio.Task[None] | None = None
        self._announced = 0

    def announce_request(self) -> None:
        """Announce a request that will classify crops."""
        self._announced += 1

    def withdraw_announcement(self) -> None:
        """Withdraw the announcement of a request: it has classified its crops, or will not."""
        self._announced -= 1

    async def classify_crops(self, crops: np.ndarray) -> np.ndarray:
        """Return float32 (N, K) of crops (N, S, S[, 3]), classified in one batch with the crops of other requests."""
        future: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self._waiting.append((crops, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run_batches())
        return await future

    async def _run_batches(self) -> None:
        while self._waiting:
            if self._announced and self._gather_s:
                await asyncio.sleep(self._gather_s)
            batch = self._take_batch()
            try:
                rows = await asyncio.get_running_loop().run_in_executor(self._executor, self._classify_batch, batch)
            except Exception as error:  # noqa: BLE001 - whatever the network raises belongs to those who asked
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            self._on_batch(len(batch), len(rows))
            start = 0
            for crops, future in batch:
                if not future.done():
                    future.set_result(rows[start : start + len(crops)])
                start += len(crops)

    def _take_batch(self) -> list[tuple[np.ndarray, asyncio.Future[np.ndarray]]]:
        """Take as many of the waiting requests as fit, at least one."""
        count, crops = 0, 0
        while count < len(self._waiting) and (not count or crops + len(self._waiting[count][0]) <= MAX_CROPS):
            crops += len(self._waiting[count][0])
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    def _classify_batch(self, batch: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]]) -> np.ndarray:
        return self._classify(np.concatenate([crops for crops, _ in batch]))
