"""Updates of jobs as server-sent events, for all clients that follow a job."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

from mien.service.jobs.jobs import Job

#: Seconds between two events of one stream, and after which a silent one says that it lives.
MIN_PAUSE_S = 0.25
PING_S = 15.0


class EventBroker:
    """Wake the followers of a job when it changes."""

    def __init__(self) -> None:
        self._subscribers: dict[str, set[asyncio.Event]] = defaultdict(set)
        self.is_closing = asyncio.Event()

    def publish_job(self, job: Job) -> None:
        for event in self._subscribers.get(job.id, ()):
            event.set()

    def close(self) -> None:
        """End all streams, so that the server can."""
        self.is_closing.set()
        for events in self._subscribers.values():
            for event in events:
                event.set()

    async def stream_job(self, job_id: str, get: Callable[[str], dict[str, Any] | None]) -> AsyncIterator[str]:
        """The job whenever it has changed, until it is in a final state or gone.

        get: the job as the interface shows it, or None.
        """
        changed = asyncio.Event()
        self._subscribers[job_id].add(changed)
        try:
            before = None
            while not self.is_closing.is_set() and (job := get(job_id)) is not None:
                if job != before:
                    yield f"event: job\ndata: {json.dumps(job)}\n\n"
                if job["ended"] is not None:
                    return
                before = job
                try:
                    await asyncio.wait_for(changed.wait(), PING_S)
                except TimeoutError:
                    yield ": ping\n\n"
                else:
                    await asyncio.sleep(MIN_PAUSE_S)
                changed.clear()
        finally:
            self._subscribers[job_id].discard(changed)
            if not self._subscribers[job_id]:
                del self._subscribers[job_id]
