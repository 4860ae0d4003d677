from __future__ import annotations

import asyncio
import io
import json
import socket
import struct
import threading
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.websockets import WebSocketDisconnect
from websockets.sync.client import connect

from mien.analysis.recognizer import Recognizer
from mien.service.camera import MAX_BAD_FRAMES, CameraConnection, LatestFrame, Recording
from mien.service.server import _Protocol
from tests.conftest import ASTRONAUT
from tests.service.conftest import PATIENCE_S, as_file, server, service

HEAD = {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}


def frame(time_s: float, shift: int = 0, side: int = 256) -> bytes:
    """A frame of the camera: the astronaut, moved to the right."""
    picture = np.roll(np.asarray(Image.open(ASTRONAUT).resize((side, side))), shift, axis=1)
    return struct.pack("<d", time_s) + as_file(picture, "jpeg", quality=90)


def test_frames_are_read_and_a_face_keeps_its_track(client: TestClient) -> None:
    with client.websocket_connect("/v1/camera?detector=haar", headers=HEAD) as camera:
        answers = []
        for number in range(6):
            camera.send_bytes(frame(number * 0.066, shift=3 * number))
            answers.append(camera.receive_json())
    assert [answer["time_s"] for answer in answers] == [number * 0.066 for number in range(6)]
    faces = [answer["faces"][0] for answer in answers]
    assert {face["track"] for face in faces} == {0}
    assert {face["label"] for face in faces} == {"happy"}
    assert faces[-1]["box"][0] > faces[0]["box"][0]
    assert sum(faces[-1]["probabilities"].values()) == pytest.approx(1, abs=0.001)
    expected = Recognizer("base", detector="haar").analyze_frames([np.asarray(Image.open(io.BytesIO(frame(0.0)[8:])))])[
        0
    ][0]
    assert faces[0]["box"] == pytest.approx(expected.box_xyxy, abs=0.01)
    assert list(faces[0]["probabilities"].values()) == pytest.approx(expected.probabilities, abs=1e-3)


def test_what_was_recorded_are_the_records_of_analyze(client: TestClient) -> None:
    with client.websocket_connect("/v1/camera?detector=haar&smoothing=0", headers=HEAD) as camera:
        seen = []
        for number in range(5):
            if number in (1, 4):
                camera.send_json({"type": "record", "on": number == 1})
            if number == 4:
                break
            camera.send_bytes(frame(10 + number))
            seen.append(camera.receive_json())
        recorded = camera.receive_json()
    assert recorded["type"] == "records"
    rows = recorded["records"]
    assert [(row["frame"], row["time_s"]) for row in rows] == [(0, 0), (1, 1), (2, 2)]  # of the recording
    assert {row["source"] for row in rows} == {"camera"}
    assert [[row[name] for name in ("x1", "y1", "x2", "y2")] for row in rows] == [
        answer["faces"][0]["box"] for answer in seen[1:]
    ]
    from mien.analysis.output.writers import record_columns

    assert list(rows[0]) == list(record_columns(list(seen[0]["faces"][0]["probabilities"])))


def test_a_recording_that_is_full_ends_and_is_sent(tmp_path: Path) -> None:
    with (
        service(tmp_path, limits={"camera_rows": 2}) as client,
        client.websocket_connect("/v1/camera?detector=haar", headers=HEAD) as camera,
    ):
        camera.send_json({"type": "record", "on": True})
        heard = []
        for number in range(4):
            camera.send_bytes(frame(number))
            heard.append(camera.receive_json())
            if number == 2:
                ended = camera.receive_json()
        camera.send_json({"type": "record", "on": True})
        camera.send_bytes(frame(5))
        camera.receive_json()
        camera.send_json({"type": "record", "on": False})
        again = camera.receive_json()
    assert [len(answer["faces"]) for answer in heard] == [1] * 4
    assert (ended["type"], ended["full"], [row["time_s"] for row in ended["records"]]) == ("records", True, [0, 1])
    assert (again["full"], [row["time_s"] for row in again["records"]]) == (False, [0])


def test_the_newest_frame_takes_the_place_of_those_before_it() -> None:
    async def run() -> list[tuple[bytes, int]]:
        newest = LatestFrame()
        for number in range(5):
            newest.put_frame(b"%d" % number)
        taken = [await newest.take_frame()]
        newest.put_frame(b"5")
        taken.append(await newest.take_frame())
        waiting = asyncio.create_task(newest.take_frame())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        newest.put_frame(b"6")
        return [*taken, await waiting]

    assert asyncio.run(run()) == [(b"4", 4), (b"5", 0), (b"6", 0)]


def test_a_sender_that_is_faster_than_the_network_is_never_answered_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty frames, thirty of them while the first is read: few are answered, the last among them, all others are counted."""
    overtaken, put, answer = threading.Event(), LatestFrame.put_frame, CameraConnection._analyze_frame

    def put_and_count(self: LatestFrame, data: bytes) -> None:
        put(self, data)
        if self.dropped >= 30:
            overtaken.set()

    async def answer_slowly(self: CameraConnection, data: bytes) -> dict:
        await asyncio.to_thread(overtaken.wait, PATIENCE_S)
        return await answer(self, data)

    monkeypatch.setattr(LatestFrame, "put_frame", put_and_count)
    monkeypatch.setattr(CameraConnection, "_analyze_frame", answer_slowly)
    with server(tmp_path) as (host, port), connect(f"ws://{host}:{port}/v1/camera?detector=haar") as camera:
        for each in [frame(number + 1.0, side=400) for number in range(40)]:
            camera.send(each)
        answers = [json.loads(camera.recv(timeout=PATIENCE_S))]
        while answers[-1]["time_s"] < 40:
            answers.append(json.loads(camera.recv(timeout=PATIENCE_S)))
    assert len(answers) <= 10
    assert len(answers) + sum(answer["dropped"] for answer in answers) == 40


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[_Protocol]:
    """The connections of a server, whose patience is no clock: it ends when a test says so."""
    found: list[_Protocol] = []
    monkeypatch.setattr(_Protocol, "_wait", lambda connection: found.append(connection))
    return found


def test_a_camera_goes_on_longer_than_a_request_may_take_to_begin(tmp_path: Path, connections: list[_Protocol]) -> None:
    with server(tmp_path) as (host, port), connect(f"ws://{host}:{port}/v1/camera?detector=haar") as camera:
        for number in range(2):
            camera.send(frame(number + 1.0))
            assert json.loads(camera.recv(timeout=PATIENCE_S))["time_s"] == number + 1
            (connection,) = set(connections)
            connection.loop.call_soon_threadsafe(connection._close_if_waiting)


def test_answers_are_not_held_back_for_an_acknowledgement(tmp_path: Path, connections: list[_Protocol]) -> None:
    """Where small packets wait for one another, every answer on an open connection takes 40 ms more."""
    with server(tmp_path) as (host, port):
        line = HTTPConnection(host, port)
        line.request("GET", "/healthz")
        assert line.getresponse().read()
        taken = connections[0].transport.get_extra_info("socket")
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        line.close()


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "does not begin with a time"),
        (b"12345678", "does not begin with a time"),
        (struct.pack("<d", float("nan")) + b"x", "does not begin with a time"),
        (struct.pack("<d", -1.0) + b"x", "does not begin with a time"),
        (struct.pack("<d", 1.0) + b"no picture", "is not a picture"),
    ],
)
def test_a_frame_that_cannot_be_read_is_answered_and_the_next_one_is_read(
    client: TestClient, data: bytes, found: str
) -> None:
    with client.websocket_connect("/v1/camera?detector=haar", headers=HEAD) as camera:
        camera.send_bytes(data)
        assert found in camera.receive_json()["error"]["problem"]
        camera.send_bytes(frame(2.0))
        assert len(camera.receive_json()["faces"]) == 1
        camera.send_bytes(frame(2.0))
        assert "rises" in camera.receive_json()["error"]["problem"]
        for text in ("hello", "[]", '{"type": "record"}', '{"type": "record", "on": 1}', "[" * 100_000):
            camera.send_text(text)
            assert "is not understood" in camera.receive_json()["error"]["problem"]


def test_a_sender_of_nothing_but_rubbish_is_cut_off(client: TestClient) -> None:
    with client.websocket_connect("/v1/camera", headers=HEAD) as camera:
        for _ in range(MAX_BAD_FRAMES):
            camera.send_bytes(b"rubbish")
            assert "error" in camera.receive_json()
        with pytest.raises(WebSocketDisconnect) as closed:
            camera.receive_json()
        assert closed.value.code == 1003


def test_a_setting_that_does_not_exist_is_said(client: TestClient) -> None:
    with client.websocket_connect("/v1/camera?model=nothing", headers=HEAD) as camera:
        assert "is unknown" in camera.receive_json()["error"]["problem"]
        with pytest.raises(WebSocketDisconnect):
            camera.receive_json()


def test_only_so_many_cameras_and_no_frame_that_is_too_large(tmp_path: Path) -> None:
    from websockets.exceptions import ConnectionClosed, InvalidStatus

    with server(tmp_path, limits={"cameras": 1, "camera_bytes": 100_000}) as (host, port):
        address = f"ws://{host}:{port}/v1/camera"
        with connect(address) as camera:
            with (
                connect(address) as second,
                pytest.raises(ConnectionClosed, match=r"1008.*cameras: has its 1 places taken"),
            ):
                second.recv(timeout=PATIENCE_S)
            camera.send(struct.pack("<d", 1.0) + bytes(200_000))
            with pytest.raises(ConnectionClosed):
                camera.recv(timeout=PATIENCE_S)
        with pytest.raises(InvalidStatus), connect(address, additional_headers={"Origin": "https://evil.example"}):
            pass


def test_cameras_at_the_same_time_do_not_mix(client: TestClient) -> None:
    found: dict[int, list[int]] = {}

    def watch(number: int) -> None:
        with client.websocket_connect("/v1/camera?detector=haar", headers=HEAD) as camera:
            for step in range(4):
                camera.send_bytes(frame(step + 1.0, shift=40 * number))
                found.setdefault(number, []).append(round(camera.receive_json()["faces"][0]["box"][0]))

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(max(places) - min(places) < 10 for places in found.values())  # searched at one size or another
    first = [found[number][0] for number in range(3)]
    assert first[0] < first[1] < first[2]


def test_a_recording_that_is_full_has_no_gaps() -> None:
    recording = Recording(max_rows=5)
    recording.set_on(True)
    for number, faces in enumerate((0, 2, 2, 2, 1)):
        recording.add_records(10 + number, 12.5 + number, [{"faces": faces}] * faces)
    rows = list(map(json.loads, recording.set_on(False)))
    assert rows == [{"faces": 2, "frame": frame, "time_s": float(frame)} for frame in (1, 1, 2, 2)]
    recording.set_on(True)
    recording.add_records(20, 60.0, [{"faces": 1}])
    assert json.loads(recording.set_on(False)[0]) == {"faces": 1, "frame": 0, "time_s": 0.0}
