"""What the tests of the service share: a service in this process, a server at a port of its own, small videos."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import make_clip
from fastapi.testclient import TestClient
from PIL import Image

from mien.service.config import Config, Limits
from mien.service.jobs.jobs import FINAL
from mien.service.server import create_app, make_server, open_listener
from tests.cli.conftest import elsewhere  # noqa: F401 - each test runs in a folder of its own

#: What a client at this machine says it wants to reach.
HERE = "http://127.0.0.1:8000"

#: Seconds until a test gives up waiting: so many that a busy machine does not fail it.
PATIENCE_S = 300.0


@contextmanager
def service(state: Path, **changes: Any) -> Iterator[TestClient]:
    """A service in this process, with a client of it."""
    limits = Limits(**changes.pop("limits", {}))
    config = Config(**{"state": state, "detector": "haar", "limits": limits} | changes)
    with TestClient(create_app(config), base_url=HERE, raise_server_exceptions=True) as client:
        yield client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service with the usual limits, one for all tests of a module."""
    with service(tmp_path_factory.mktemp("state")) as client:
        yield client


@contextmanager
def server(state: Path, **changes: Any) -> Iterator[tuple[str, int]]:
    """A service that listens at a free port: (host, port)."""
    limits = Limits(**changes.pop("limits", {}))
    listener = open_listener("127.0.0.1", 0)
    port = listener.getsockname()[1]
    config = Config(**{"state": state, "detector": "haar", "limits": limits, "port": port} | changes)
    running = make_server(create_app(config), config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: running.started)
    try:
        yield "127.0.0.1", port
    finally:
        running.should_exit = True
        thread.join(PATIENCE_S)
        listener.close()


def until(true: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """Wait for something to become true, and return it."""
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return value


def finished(client: Any, job_id: str) -> dict[str, Any]:
    """The job when it is in a final state."""

    def get() -> dict[str, Any] | None:
        job = client.get(f"/v1/jobs/{job_id}").json()
        return job if job["state"] in FINAL else None

    return until(get)


def sent(client: Any, data: bytes | Path, name: str = "clip.mp4", **query: Any) -> dict[str, Any]:
    """The job of a video that was sent."""
    content = data.read_bytes() if isinstance(data, Path) else data
    answer = client.post("/v1/videos", files={"file": (name, content)}, params=query)
    assert answer.status_code == 202, answer.text
    return answer.json()["job"]


def form(data: bytes, name: str = "photo.jpg") -> dict[str, Any]:
    return {"files": {"file": (name, data)}}


def as_file(picture: np.ndarray, kind: str = "png", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def error_of(answer: Any, status: int) -> dict[str, Any]:
    """The error of an answer, which has the one shape that all errors have."""
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert set(document) == {"error"}
    assert set(document["error"]) == {"name", "problem", "hint", "code", "parameters"}
    assert all(document["error"][part] for part in ("name", "problem", "hint", "code"))
    return document["error"]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of the astronaut, 160 x 120, with sound."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    make_clip(path, seconds=1, size_wh=(160, 120))
    return path


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of it: long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("clips")
    make_clip(folder / "short.mp4", seconds=3, size_wh=(320, 240), sound=None)
    repeat_packets(folder / "short.mp4", folder / "long.mp4", times=20)
    return folder / "long.mp4"


def repeat_packets(path: Path, target: Path, times: int) -> None:
    """Write the pictures of a video several times one after the other, without encoding them again."""
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        stream = source.streams.video[0]
        copied = out.add_stream_from_template(stream)
        for number in range(times):
            source.seek(0)
            for packet in source.demux(stream):
                if packet.dts is None:
                    continue
                packet.pts += number * stream.duration
                packet.dts += number * stream.duration
                packet.stream = copied
                out.mux(packet)
