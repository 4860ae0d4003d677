"""Uploads that mean harm, for the service's benchmark and test: what each sends, byte by byte, and how slowly.

None of them needs more than this file to be made. ``attack`` sends one and says what came back.
"""

from __future__ import annotations

import io
import random
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ASTRONAUT = Path(__file__).resolve().parent.parent / "examples" / "astronaut.jpg"
BOUNDARY = b"hostile-boundary"
FORM = b"multipart/form-data; boundary=" + BOUNDARY


@dataclass(frozen=True)
class Attack:
    """parts are sent one after the other with ``pause`` seconds between them; then, with ``leave``, nothing is read."""

    name: str
    parts: Callable[[], Iterator[bytes]]
    pause: float = 0.0
    leave: bool = False


@dataclass(frozen=True)
class Outcome:
    """What one came to: an HTTP status, or 0 for a connection that was closed without one."""

    name: str
    status: int
    seconds: float
    body: bytes


def head(path: str = "/v1/images", *, kind: bytes = FORM, length: int | str | None = None, more: bytes = b"") -> bytes:
    lines = [f"POST {path} HTTP/1.1".encode(), b"Host: 127.0.0.1", b"Content-Type: " + kind, b"Connection: close"]
    if length is not None:
        lines.append(f"Content-Length: {length}".encode())
    return b"\r\n".join(lines) + b"\r\n" + more + b"\r\n"


def form(data: bytes, name: bytes = b"photo.jpg") -> bytes:
    begin = b'--%s\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n' % (BOUNDARY, name)
    return begin + data + b"\r\n--" + BOUNDARY + b"--\r\n"


def upload(name: str, data: bytes, file: bytes = b"photo.jpg", path: str = "/v1/images") -> Attack:
    """A whole and well-formed request with a file in it."""
    body = form(data, file)
    return Attack(name, lambda: iter([head(path, length=len(body)) + body]))


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, *extra: bytes, depth: int = 8, color: int = 2, method: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, method)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """``count`` zero bytes as zlib packs them: a thousandth of their size."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join(
        [*(packer.compress(block) for _ in range(count >> 20)), packer.compress(bytes(count & 0xFFFFF)), packer.flush()]
    )


def make_wrong_headers() -> Iterator[Attack]:
    """50,000 x 50,000 pixels, said by a few bytes."""
    side = 50_000
    few = zlib.compress(bytes(100))
    photo = ASTRONAUT.read_bytes()
    frame = photo.index(b"\xff\xc0")
    yield upload("png header", png(side, side, few))
    yield upload("png header, 16 bit", png(side, side, few, depth=16, color=6))
    yield upload("png header, interlaced", png(side, side, few, method=1))
    yield upload("png header, largest", png(2**31 - 1, 2**31 - 1, few))
    yield upload("png header, nothing", png(0, 0, few))
    yield upload("png header, a line", png(2**31 - 1, 1, few))
    yield upload("jpeg header", photo[: frame + 5] + struct.pack(">HH", side, side) + photo[frame + 9 :])
    yield upload("jpeg header, one high", photo[: frame + 5] + struct.pack(">HH", 1, 65_000) + photo[frame + 9 :])
    yield upload(
        "bmp header", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    yield upload(
        "gif header",
        b"GIF89a"
        + struct.pack("<HHBBB", side, side, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, side, side, 0)
        + b"\x08\x01\0\0;",
    )
    yield upload("ppm header", b"P6 50000 50000 255\n" + bytes(100))
    entries = [
        (256, 4, side),
        (257, 4, side),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, side),
        (279, 4, 100),
    ]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    yield upload("tiff header", b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4))
    yield upload("tiff, a circle of directories", b"II*\0" + struct.pack("<IH", 8, 0) + struct.pack("<I", 8))
    yield upload("tiff, many entries", b"II*\0" + struct.pack("<IH", 8, 65_535) + directory * 500)
    yield upload(
        "webp header", b"RIFF" + struct.pack("<I", 100) + b"WEBPVP8L" + struct.pack("<IB", 90, 0x2F) + b"\xff" * 60
    )
    yield upload("avif header", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(200))


def make_bombs() -> Iterator[Attack]:
    """Small files that decode to large pictures, within the limits and beyond."""
    yield upload("bomb, 900 million pixels", saved(Image.new("1", (30_000, 30_000)), "png"))
    yield upload("bomb, 60 million pixels RGB", png(10_000, 6_000, zeros(6_000 * 30_001)))
    yield upload("bomb, 60 million pixels RGBA 16 bit", png(10_000, 6_000, zeros(6_000 * 80_001), depth=16, color=6))
    yield upload("bomb, more data than pixels", png(10, 10, zeros(200 << 20)))
    yield upload("bomb, text", png(10, 10, zeros(310), chunk(b"zTXt", b"a\0\0" + zeros(200 << 20))))
    yield upload("bomb, color profile", png(10, 10, zeros(310), chunk(b"iCCP", b"a\0\0" + zeros(200 << 20))))
    yield upload(
        "bomb, gif of many frames",
        saved(
            Image.new("P", (2000, 2000)),
            "gif",
            save_all=True,
            append_images=[Image.new("P", (2000, 2000), n) for n in range(20)],
        ),
    )
    yield upload("bomb, tiff packed", saved(Image.new("RGB", (8000, 7000)), "tiff", compression="tiff_adobe_deflate"))
    yield upload("bomb, webp", saved(Image.new("RGB", (8000, 7900)), "webp", lossless=True, method=0))
    yield upload("bomb, packed request", zlib.compress(bytes(20 << 20)))
    packed = zeros(50 << 20)
    yield Attack(
        "bomb, Content-Encoding", lambda: iter([head(length=len(packed), more=b"Content-Encoding: gzip\r\n") + packed])
    )


def make_polyglots() -> Iterator[Attack]:
    """Files that are two things at once."""
    photo = ASTRONAUT.read_bytes()
    page = b"<html><script>alert(document.cookie)</script></html>"
    yield upload("picture and page", photo + page, b"photo.html")
    yield upload("page and picture", page + photo, b"photo.jpg")
    yield upload("gif and script", b"GIF89a/*" + bytes(30) + b"*/=1;alert(1);")
    yield upload("picture and archive", photo + b"PK\x03\x04" + bytes(500) + b"PK\x05\x06" + bytes(18))
    yield upload("pdf and picture", b"%PDF-1.7\n" + photo)
    yield upload(
        "postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n(/etc/passwd) (r) file\n"
    )
    yield upload("svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', b"a.svg")
    yield upload("program", b"\x7fELF" + bytes(5000))
    yield upload("pickle", b"cos\nsystem\n(S'exit 1'\ntR.")
    for kind, text in (
        ("playlist", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
        ("list of files", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("subtitles", b"1\n00:00:00,000 --> 00:00:09,000\nhello\n"),
        ("atoms", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\xff\xff\xff\xffmoov" * 200),
        ("matroska", b"\x1a\x45\xdf\xa3" + b"\xff" * 3000),
        ("picture as video", photo),
    ):
        yield upload(f"video: {kind}", text, b"clip.mp4", "/v1/videos")


def make_names() -> Iterator[Attack]:
    """File names that would lead elsewhere, break a header, or be read as something else."""
    photo = ASTRONAUT.read_bytes()
    for name in (
        b"../../../../etc/cron.d/x", b"/etc/passwd", b"..\\..\\windows\\system32\\x.dll", b"C:\\x.jpg", b"a\0.jpg", b"CON", b"", b".",
        b"..", b"~root/.ssh/authorized_keys", b"$(reboot).jpg", b"`id`.jpg", b"a;rm -rf ~.jpg", b"%2e%2e%2fx", b"\xff\xfe\xfd.jpg",
        b"x" * 3000 + b".jpg", b"a\r\nSet-Cookie: x=1\r\n\r\n.jpg", b'"><script>alert(1)</script>.jpg', "\u202egpj.exe".encode(), b"\xed\xa0\x80.jpg",
    ):  # fmt: skip
        yield upload(f"name {name[:20]!r}", photo, name)
        if len(name) < 100:
            yield upload(f"video name {name[:20]!r}", b"no video", name, "/v1/videos")


def make_forms() -> Iterator[Attack]:
    """Forms that do not end, do not begin, or are not what their headers say."""
    photo = ASTRONAUT.read_bytes()
    begin = form(b"").split(b"\r\n--" + BOUNDARY + b"--")[0]
    yield Attack("endless file", lambda: iter([head(length=2**40), begin, *[bytes(1 << 20)] * 100]))
    yield Attack(
        "endless chunks",
        lambda: iter([head(more=b"Transfer-Encoding: chunked\r\n"), *[b"100000\r\n" + bytes(1 << 20) + b"\r\n"] * 100]),
    )
    yield Attack("endless file in chunks", lambda: iter([head(more=b"Transfer-Encoding: chunked\r\n"), b"%x\r\n%s\r\n" % (len(begin), begin), *[b"100000\r\n" + bytes(1 << 20) + b"\r\n"] * 100]))  # fmt: skip
    yield Attack(
        "endless video", lambda: iter([head("/v1/videos", length=2**40), begin, *[bytes(1 << 20)] * 20]), leave=True
    )
    part = b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'
    yield Attack("endless parts", lambda: iter([head(length=2**25), *[part * 1000] * 50]))
    yield Attack(
        "endless header of a part",
        lambda: iter([head(length=2**25), b"--" + BOUNDARY + b"\r\nX-A: ", *[b"a" * 60_000] * 50]),
    )
    yield Attack(
        "many headers of a part",
        lambda: iter([head(length=2**25), b"--" + BOUNDARY + b"\r\n", *[b"X-A: b\r\n" * 1000] * 50]),
    )
    yield Attack("many headers", lambda: iter([head(length=10, more=b"X-A: b\r\n" * 20_000)]))
    yield Attack("a long header", lambda: iter([head(length=10, more=b"X-A: " + b"b" * 500_000 + b"\r\n")]))
    yield Attack("a long address", lambda: iter([head("/v1/images?" + "a" * 300_000, length=0)]))
    body = form(photo)
    for name, length in (("more", len(body) + 1000), ("less", len(body) - 1000), ("negative", -1), ("huge", "9" * 30),
                         ("hexadecimal", "0x10"), ("words", "many"), ("twice", f"{len(body)}, 5"), ("nothing", 0)):  # fmt: skip
        yield Attack(
            f"wrong length: {name}", lambda length=length: iter([head(length=length) + body]), leave=name == "more"
        )
    both = b"Transfer-Encoding: chunked\r\n"
    yield Attack("two lengths", lambda: iter([head(length=len(body), more=b"Content-Length: 5\r\n") + body]))
    yield Attack("length and chunks", lambda: iter([head(length=len(body), more=both) + body]))
    yield Attack("chunks that are none", lambda: iter([head(more=both) + b"zzz\r\n" + body]))
    yield Attack("a chunk that is too long", lambda: iter([head(more=both) + b"f" * 40 + b"\r\n" + body]))
    for kind in (b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; boundary=" + b"x" * 5000,
                 b"multipart/form-data; boundary=\xff\xfe", b"image/jpeg", b"text/plain", b"application/json", b"\0", b";;;="):  # fmt: skip
        yield Attack(f"kind {kind[:40]!r}", lambda kind=kind: iter([head(kind=kind, length=len(body)) + body]))
    yield Attack("no HTTP", lambda: iter([b"\x16\x03\x01" + bytes(300) + b"\r\n\r\n"]))
    yield Attack("old HTTP", lambda: iter([b"POST /v1/images\r\n\r\n"]))
    yield Attack(
        "a strange method", lambda: iter([b"BREW /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"])
    )
    yield Attack("gone at once", lambda: iter([head(length=len(body)) + body]), leave=True)
    yield Attack("gone in the middle", lambda: iter([head(length=len(body)) + body[:5000]]), leave=True)


def make_slow_requests() -> Iterator[Attack]:
    """Senders that take their time, to take a place."""
    body = form(ASTRONAUT.read_bytes())
    yield Attack("silent before the request", lambda: iter([b""]))
    yield Attack("headers drop by drop", lambda: (bytes([byte]) for byte in head(length=len(body))[:40]), pause=0.5)
    yield Attack("silent after the headers", lambda: iter([head(length=len(body))]))
    yield Attack("silent in the middle", lambda: iter([head(length=len(body)) + body[:20_000]]))
    yield Attack(
        "body drop by drop",
        lambda: iter([head(length=len(body)), *(body[n : n + 5] for n in range(0, 400, 5))]),
        pause=0.4,
    )


def make_damaged(count: int, seed: int = 0) -> Iterator[Attack]:
    """Pictures of every format with bytes changed, cut out, doubled or cut off."""
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    photo = Image.open(ASTRONAUT).resize((200, 200))
    deep = Image.fromarray(numbers.integers(0, 65_535, (60, 60)).astype(np.uint16))
    sources = [saved(photo, kind) for kind in ("jpeg", "png", "webp", "gif", "bmp", "tiff", "ppm", "avif")]
    sources += [
        saved(photo, "jpeg", progressive=True),
        saved(deep, "png"),
        saved(deep, "tiff"),
        saved(photo, "tiff", compression="tiff_lzw"),
    ]
    for number in range(count):
        data = bytearray(sources[number % len(sources)])
        early = rng.random() < 0.5  # where the headers are
        for _ in range(rng.choice((1, 3, 10, 100))):
            place = rng.randrange(min(len(data), 200) if early else len(data))
            data[place] = rng.choice((0, 255, 127, 128, rng.randrange(256)))
        if rng.random() < 0.3:
            data = data[: rng.randrange(1, len(data))]
        yield upload(f"damaged {number}", bytes(data))


def iterate_attacks(count: int = 200, seed: int = 0) -> list[Attack]:
    """All kinds, filled up to ``count`` with damaged pictures, in an order that a seed shuffles."""
    fixed = [
        attack
        for kind in (make_wrong_headers, make_bombs, make_polyglots, make_names, make_forms, make_slow_requests)
        for attack in kind()
    ]
    everything = fixed + list(make_damaged(max(0, count - len(fixed)), seed))
    random.Random(seed).shuffle(everything)
    return everything


def send_attack(one: Attack, address: tuple[str, int], patience_s: float = 90.0) -> Outcome:
    """Send one, read what comes back until the connection is closed. TimeoutError where it never is."""
    started = time.monotonic()
    answer = b""
    with socket.create_connection(address, timeout=patience_s) as line:
        try:
            for part in one.parts():
                line.sendall(part)
                if one.pause:
                    time.sleep(one.pause)
        except (ConnectionError, BrokenPipeError):
            pass  # it was closed while we were sending: as it should be
        try:
            while not one.leave and (data := line.recv(1 << 16)):
                answer += data
                if time.monotonic() - started > patience_s:
                    raise TimeoutError
        except ConnectionError:
            pass
    top, _, body = answer.partition(b"\r\n\r\n")
    status = int(top.split(b" ", 2)[1]) if top.startswith(b"HTTP/1.1 ") else 0
    return Outcome(one.name, status, time.monotonic() - started, body)
