"""What comes from addresses: recordings, live streams and pictures; and what damage leaves out of files."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip
from PIL import Image

from mien.analysis.media import container as opening
from mien.analysis.media import packets
from mien.analysis.media.video_reader import PictureInsteadOfVideo, VideoFrame, VideoSource
from mien.cli.main import main
from tests.conftest import ASTRONAUT


@contextmanager
def serving(send: Callable[[BaseHTTPRequestHandler], None], **headers: str) -> Iterator[str]:
    """An address whose server sends a head with these headers, and then what ``send`` writes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            try:
                send(self)
            except OSError:
                return  # who read it has gone

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def read(address: str) -> tuple[VideoSource, list[VideoFrame]]:
    with VideoSource(address) as source:
        return source, list(source.frames())


@pytest.fixture(scope="module")
def transport(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Four seconds of a transport stream, 100 frames."""
    path = tmp_path_factory.mktemp("clips") / "clip.ts"
    make_clip(path, seconds=4, size_wh=(96, 64), sound=None)
    return path.read_bytes()


@pytest.mark.parametrize("form", ["mpegts", "matroska", "h264"])
def test_of_a_recording_without_a_length_every_frame_is_read(tmp_path: Path, form: str) -> None:
    """As fast as it comes: its server neither says how much it is, nor waits."""
    made = tmp_path / "clip.mp4"
    make_clip(made, seconds=4, size_wh=(96, 64), sound=None)
    content = io.BytesIO()
    with av.open(str(made)) as source, av.open(content, "w", format=form) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    with serving(lambda handler: handler.wfile.write(content.getvalue())) as address:
        found, frames = read(address)
    assert (found.is_live, found.damage) == (False, "")
    assert [frame.index for frame in frames] == list(range(100))
    times = np.array([frame.time_s for frame in frames])
    assert times - times[0] == pytest.approx(np.arange(100) / 25, abs=0.002)


class PacketClock:
    """A clock that stands still for the first packets, and for each later one goes on by about twice ``step_s``."""

    def __init__(self, step_s: float, buffered: int) -> None:
        self.step_s, self.left, self.now_s = step_s, 2 * buffered, 0.0

    def monotonic(self) -> float:
        """Return the time: it is asked before and after each packet."""
        self.left -= 1
        self.now_s += self.step_s if self.left < 0 else 1e-6
        return self.now_s


@pytest.mark.parametrize(("step_s", "is_live"), [(0.04, True), (0.004, False)])
def test_what_comes_at_its_own_pace_is_live(
    monkeypatch: pytest.MonkeyPatch, transport: bytes, step_s: float, is_live: bool
) -> None:
    """Packets last 0.04 s: their sender is slower than that, or faster, after some that were gathered before."""
    monkeypatch.setattr(packets, "PROBE_S", 0.5)
    monkeypatch.setattr(packets, "BURST_S", 0.1)
    monkeypatch.setattr(packets, "time", PacketClock(step_s, buffered=20))
    stop = threading.Event()

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(transport)
        stop.wait()  # it may go on

    with serving(send) as address:
        try:
            with VideoSource(address) as source:
                assert source.is_live == is_live
        finally:
            stop.set()


def test_a_live_stream_without_times_gets_those_of_the_clock() -> None:
    """MJPEG as cameras send it to browsers, at eight frames a second; FFmpeg takes it for 25."""
    picture, sent = io.BytesIO(), []
    Image.new("RGB", (96, 64), (90, 90, 90)).save(picture, "JPEG")

    def send(handler: BaseHTTPRequestHandler) -> None:
        for _ in range(9):
            sent.append(time.monotonic())
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {picture.tell()}\r\n\r\n"
            handler.wfile.write(head.encode() + picture.getvalue() + b"\r\n")
            time.sleep(1 / 8)

    with serving(send, Content_Type="multipart/x-mixed-replace; boundary=frame") as address:
        source, frames = read(address)
    assert len(frames) == 9 and source.damage == "" and source.start_s == 0
    times = np.array([frame.time_s for frame in frames])
    assert times[0] == 0 and np.diff(times).min() > 0
    assert times[-1] == pytest.approx(sent[-1] - sent[0], abs=0.6)


@pytest.mark.parametrize("length", [True, False])
def test_a_picture_at_an_address_is_read_as_a_picture(tmp_path: Path, length: bool) -> None:
    turned, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.open(ASTRONAUT).rotate(90, expand=True).save(turned, "JPEG", exif=exif, quality=95)
    headers = {"Content_Length": str(turned.tell())} if length else {}
    with serving(lambda handler: handler.wfile.write(turned.getvalue()), **headers) as address:
        with pytest.raises(PictureInsteadOfVideo, match="is a picture, not a video"):
            VideoSource(f"{address}face.jpg")
        command = ["analyze", f"{address}face.jpg", "--out", str(tmp_path), "--detector", "haar", "--format", "jsonl"]
        assert main(command) == 0
    (annotated,) = tmp_path.glob("*face.jpg.annotated.jpg")
    assert Image.open(annotated).size == Image.open(ASTRONAUT).size
    (records,) = tmp_path.glob("*.records.jsonl")
    assert records.read_text().count('"happy"') >= 1


def test_a_sender_that_ends_ends_the_stream_in_good_order(monkeypatch: pytest.MonkeyPatch, transport: bytes) -> None:
    monkeypatch.setattr(opening, "STREAM_TIMEOUT_S", (60.0, 2.0))  # to open it, and to go on
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    opened = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not opened.is_set():
                for start in range(0, len(transport), 188 * 7):
                    sender.sendto(transport[start : start + 188 * 7], ("127.0.0.1", port))
                    time.sleep(0.005)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        with VideoSource(f"udp://127.0.0.1:{port}") as source:
            opened.set()
            count = sum(1 for _ in source.frames())
    finally:
        opened.set()
        thread.join()
    assert source.is_live and count > 0 and (source.damage, source.is_cut_off) == ("", False)


def test_pictures_that_damage_leaves_out_are_said(tmp_path: Path) -> None:
    """Matroska goes on behind what it cannot read; of JPEGs none depends on another, so that no decoder notices."""
    rng = np.random.default_rng(5)
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w", options={"cluster_time_limit": "200"}) as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for number in range(90):
            picture = rng.integers(0, 256, (64, 96, 3), np.uint8)
            picture[16:48, 16:80] = 2 * number
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 8] = rng.bytes(len(content) // 8)
    path.write_bytes(content)
    with VideoSource(path) as source:
        frames = list(source.frames())
    times = np.array([frame.time_s for frame in frames])
    last = int(np.argmax(np.diff(times)))
    missing = round(30 * (times[last + 1] - times[last])) - 1
    assert 5 < missing < 30 and len(frames) == 90 - missing
    where = times[last] + 1 / 30
    assert source.damage == (
        f"{missing / 30:.2f} s of pictures are missing from {where:.2f} s on, where the file is damaged"
    )
    assert frames[last].duration * source.time_base == pytest.approx(1 / 30, abs=0.001)  # and not until it goes on
    assert main(["analyze", str(path), "--out", str(tmp_path / "out"), "--detector", "none", "--no-media"]) == 1


def test_a_broadcast_that_was_joined_in_the_middle_is_whole(tmp_path: Path) -> None:
    """Nothing can be decoded before the first key frame, which is no end of the file."""
    make_clip(tmp_path / "clip.ts", seconds=20, fps=Fraction(30), size_wh=(96, 64), sound=None)  # a key frame in 250
    content = (tmp_path / "clip.ts").read_bytes()
    (tmp_path / "middle.ts").write_bytes(content[len(content) // 188 // 4 * 188 :])
    with VideoSource(tmp_path / "middle.ts") as source:
        count = sum(1 for _ in source.frames())
        assert source.duration_s > count / 30 + 1
    assert source.damage == ""
