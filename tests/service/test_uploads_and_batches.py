from __future__ import annotations

import asyncio
import errno
import io
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from starlette.requests import Request

from mien.service.config import Limits
from mien.service.errors import RequestError
from mien.service.jobs.routes import check_video
from mien.service.recognition.batching import MAX_CROPS, Batcher
from mien.service.recognition.decoding import Decoders
from mien.service.uploads import receive_file
from tests.conftest import ASTRONAUT
from tests.service.conftest import as_file, until


def request_of(body: bytes, step: int) -> Request:
    """A request whose body arrives ``step`` bytes at a time."""
    pieces = [body[start : start + step] for start in range(0, len(body), step)]

    async def receive() -> dict[str, object]:
        piece = pieces.pop(0) if pieces else b""
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    head = [(b"content-type", b"multipart/form-data; boundary=AaB")]
    return Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": head}, receive)


@pytest.mark.parametrize("step", [1, 2, 7, 64, 10_000])
def test_a_file_is_the_same_however_its_form_is_cut(step: int) -> None:
    data = bytes(range(256)) + b"\r\n--AaC\r\n--Aa\r\n\r\n" + bytes(300)  # what looks like a boundary and is none
    body = (
        b'--AaB\r\nContent-Disposition: form-data; name="note"\r\n\r\nfirst\r\n'
        b'--AaB\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa4.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        + data + b'\r\n--AaB\r\nContent-Disposition: form-data; name="file"; filename="b"\r\n\r\nsecond\r\n--AaB--\r\n'
    )  # fmt: skip
    target = io.BytesIO()
    upload = asyncio.run(receive_file(request_of(body, step), target, 10_000))
    assert target.getvalue() == data
    assert (upload.name, upload.size) == ("ä.jpg", len(data))


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b'{"video": "' + b"A" * 600, "not_a_video"), (b"<!doctype html><p>" + b"\xc3\xa4" * 400, "not_a_video"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40) + b"IDAT" + bytes(600), "picture_not_video"), (b"RIFF\x10\x20\x30\x40WEBP" + bytes(600), "picture_not_video"),
        (b"RIFFabcdAVI LIST" + bytes(600), ""), (b"\0\0\0\x20ftypisom" + bytes(600), ""), (b"GIF89a" + bytes(600), ""),
        (b"\x89PNG\r\n\x1a\n" + bytes(40) + b"acTL" + bytes(20) + b"IDAT" + bytes(600), ""),  # animated
        (b"RIFF\x10\x20\x30\x40WEBPVP8X\x0a\0\0\0\x02" + bytes(600), ""),
    ],
)  # fmt: skip
def test_what_is_no_video_is_refused_before_all_of_it_was_sent(head: bytes, code: str) -> None:
    body = b'--AaB\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n' + head + bytes(50_000)
    target = io.BytesIO()
    with pytest.raises(RequestError) as refused:  # that it breaks off is told of what is taken to its end
        asyncio.run(receive_file(request_of(body, 1000), target, 100_000, check_video))
    assert refused.value.error.code == (code or "broken_form")
    assert (len(target.getvalue()) < 2000) is bool(code)
    assert refused.value.status_code == (415 if code else 422)


def test_text_that_is_shorter_than_what_is_looked_at_is_refused_too() -> None:
    body = b'--AaB\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n{"a": 1}\r\n--AaB--\r\n'
    with pytest.raises(RequestError, match="is text, not a video"):
        asyncio.run(receive_file(request_of(body, 1000), io.BytesIO(), 100_000, check_video))


def test_no_more_is_written_than_may_be() -> None:
    body = b'--AaB\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 100_000
    target = io.BytesIO()
    with pytest.raises(RequestError) as refused:
        asyncio.run(receive_file(request_of(body, 1000), target, 5000))
    assert refused.value.status_code == 413
    assert len(target.getvalue()) <= 5000


def slow_means(crops: np.ndarray) -> np.ndarray:
    """Stands for a network: takes a while, and its answer for a crop depends on that crop alone."""
    time.sleep(0.05)
    return crops.reshape(len(crops), -1).mean(axis=1, keepdims=True)


def test_what_arrives_together_is_one_batch_and_everyone_gets_their_own() -> None:
    batches: list[tuple[int, int]] = []

    async def many() -> list[np.ndarray]:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(slow_means, executor, lambda requests, crops: batches.append((requests, crops)))
            crops = [np.full((1 + n % 3, 4, 4), n, np.uint8) for n in range(20)]
            return await asyncio.gather(*[batcher.classify_crops(each) for each in crops])

    answers = asyncio.run(many())
    for n, answer in enumerate(answers):
        assert answer.tolist() == [[n]] * (1 + n % 3)
    assert sum(requests for requests, _ in batches) == 20
    assert len(batches) <= 2
    assert max(crops for _, crops in batches) <= MAX_CROPS


def test_those_on_their_way_are_waited_for() -> None:
    batches: list[int] = []

    async def two() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(slow_means, executor, lambda requests, crops: batches.append(requests), gather_s=0.05)
            batcher.announce_request()

            async def later() -> None:
                await asyncio.sleep(0)
                batcher.withdraw_announcement()
                await batcher.classify_crops(np.zeros((1, 4, 4), np.uint8))

            await asyncio.gather(batcher.classify_crops(np.ones((1, 4, 4), np.uint8)), later())

    asyncio.run(two())
    assert batches == [2]


def test_a_batch_holds_no_more_than_it_may_and_an_error_reaches_those_who_asked() -> None:
    sizes: list[int] = []

    def fails_on_black(crops: np.ndarray) -> np.ndarray:
        sizes.append(len(crops))
        if not crops.all():
            raise ValueError("black")
        return slow_means(crops)

    async def ask() -> list[object]:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(fails_on_black, executor)
            crops = [np.full((40, 4, 4), value, np.uint8) for value in (1, 0, 2)]
            answers = await asyncio.gather(*[batcher.classify_crops(each) for each in crops], return_exceptions=True)
            return [*answers, await batcher.classify_crops(crops[0])]

    one, black, two, again = asyncio.run(ask())
    assert sizes == [40, 40, 40, 40]
    assert isinstance(black, ValueError)
    assert (one == 1).all() and (two == 2).all() and (again == 1).all()


def decode(decoders: Decoders, *files: bytes) -> list[object]:
    """What becomes of files that are decoded at the same time: an array, or the refusal."""

    async def each(data: bytes) -> np.ndarray:
        async with decoders.decode_picture(data, "file") as picture:
            return picture

    async def all_of() -> list[object]:
        return await asyncio.gather(*map(each, files), return_exceptions=True)

    return asyncio.run(all_of())


@pytest.fixture
def decoders():
    made: list[Decoders] = []

    def make(count: int = 1, **limits: float) -> Decoders:
        made.append(Decoders(count, Limits(**limits)))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_decoders_give_the_pixels_that_pillow_gives(decoders) -> None:
    files = [ASTRONAUT.read_bytes(), as_file(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)), ASTRONAUT.read_bytes()]
    for data, picture in zip(files, decode(decoders(2), *files), strict=True):
        assert (picture == np.asarray(Image.open(io.BytesIO(data)))).all()


posix = pytest.mark.skipif(sys.platform == "win32", reason="processes are stopped by signals")


@posix
def test_a_decoder_that_dies_or_hangs_is_replaced(decoders) -> None:
    pool = decoders(1, decode_s=0.5)
    data = ASTRONAUT.read_bytes()
    os.kill(pool.pids[0], signal.SIGSTOP)  # it hangs
    (hung,) = decode(pool, data)
    assert isinstance(hung, RequestError)
    assert (hung.status_code, "too much time" in hung.error.problem) == (422, True)
    pool._limits = replace(pool._limits, decode_s=300)  # the next one has the time that it needs
    assert decode(pool, data)[0].shape == (512, 512, 3)
    died = psutil.Process(pool.pids[0])
    died.kill()
    until(lambda: died.status() == psutil.STATUS_ZOMBIE)
    assert decode(pool, data)[0].shape == (512, 512, 3)
    assert pool.replaced == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of a process")
def test_a_bomb_takes_its_decoder_and_nothing_else(decoders) -> None:
    """200 million white pixels in some kilobytes: within the limit on pixels here, not within that on memory."""
    buffer = io.BytesIO()
    Image.new("1", (20_000, 10_000), 1).save(buffer, "png")
    assert buffer.tell() < 50_000
    pool = decoders(1, picture_pixels=400_000_000, decode_bytes=400 * 2**20)
    (refused,) = decode(pool, buffer.getvalue())
    assert (refused.status_code, "memory" in refused.error.problem) == (422, True)
    assert decode(pool, ASTRONAUT.read_bytes())[0].shape == (512, 512, 3)


def test_a_header_that_claims_too_many_pixels_is_refused_before_they_are_decoded(decoders) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    pool = decoders(decode_bytes=400 * 2**20)  # its pixels would need 7,500 MB
    (refused,) = decode(pool, png)
    assert (refused.status_code, "50000 x 50000" in refused.error.problem) == (413, True)
    assert pool.replaced == 0


def test_pictures_wait_for_room(decoders) -> None:
    """Room for two at a time: never more are held, and all of them come."""
    pool = decoders(2, decoded_bytes=2 * 300 * 300 * 3)
    held: list[int] = []

    async def hold() -> None:
        async with pool.decode_picture(as_file(np.zeros((300, 300, 3), np.uint8)), "file"):
            held.append(pool._held)
            await asyncio.sleep(0.02)

    async def many() -> None:
        await asyncio.gather(*[hold() for _ in range(10)])

    asyncio.run(many())
    assert len(held) == 10
    assert max(held) <= 2 * 300 * 300 * 3
    assert pool._held == 0


def test_a_picture_larger_than_all_the_room_is_read_alone(decoders) -> None:
    pool = decoders(2, decoded_bytes=1000)
    pictures = decode(pool, ASTRONAUT.read_bytes(), ASTRONAUT.read_bytes())
    assert [picture.shape for picture in pictures] == [(512, 512, 3)] * 2


def test_who_does_not_wait_any_more_leaves_no_room_taken(decoders) -> None:
    """A camera that closes while its frame is being decoded."""
    pool = decoders(1)
    pool.start()

    async def hold() -> None:
        async with pool.decode_picture(ASTRONAUT.read_bytes(), "frame"):
            await asyncio.Event().wait()

    async def leave() -> None:
        for pause in (0.0, 0.001, 0.003, 0.01, 0.02, 0.1) * 4:  # before, while and after it is decoded
            task = asyncio.create_task(hold())
            await asyncio.sleep(pause)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with pool.decode_picture(ASTRONAUT.read_bytes(), "frame") as picture:
            assert pool._held == picture.nbytes

    asyncio.run(leave())
    assert (pool._held, pool.replaced) == (0, 0)


def test_a_decoder_that_cannot_be_started_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may be out of processes or files for a while."""
    from mien.service.recognition import decoding

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    pool = Decoders(2, Limits())
    with monkeypatch.context() as patch:
        patch.setattr(decoding.subprocess, "Popen", full)
        pool.start()
        for _ in range(3):
            (refused,) = decode(pool, ASTRONAUT.read_bytes())
            assert (refused.status_code, "cannot start" in refused.error.problem) == (503, True)
    assert decode(pool, ASTRONAUT.read_bytes())[0].shape == (512, 512, 3)
    pool.close()


def test_pixels_of_one_picture_never_reach_the_next_one(decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no memory for a picture that is decoded already: what stands in the pipe is thrown away."""
    from mien.service.recognition import decoding

    pool = decoders(1)
    real = np.empty
    monkeypatch.setattr(decoding.np, "empty", lambda *_: (_ for _ in ()).throw(MemoryError()))
    assert isinstance(decode(pool, as_file(np.full((9, 9, 3), 77, np.uint8)))[0], MemoryError)
    monkeypatch.setattr(decoding.np, "empty", real)
    assert (decode(pool, as_file(np.full((9, 9, 3), 5, np.uint8)))[0] == 5).all()
    assert (pool._held, pool.replaced) == (0, 1)


def test_the_decoder_opens_no_other_formats(tmp_path: Path, decoders) -> None:
    (refused,) = decode(decoders(), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert "not a picture" in refused.error.problem
    for kind in ("webp", "bmp", "gif", "tiff", "ppm"):
        (picture,) = decode(decoders(), as_file(np.full((8, 9, 3), 90, np.uint8), kind))
        assert picture.shape == (8, 9, 3)
