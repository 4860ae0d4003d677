"""The HTTP service on this machine: latency alone, throughput of many clients, and what hostile uploads do to it.

python benchmarks/service.py                             all three
python benchmarks/service.py latency load --seconds 60   some of: latency load hostile camera
"""

from __future__ import annotations

import argparse
import io
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import psutil
from data_files import YUNET, find_data_file
from hostile import ASTRONAUT, iterate_attacks, send_attack
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
HEAD = {"content-type": "multipart/form-data; boundary=b", "host": "127.0.0.1"}


def photo() -> bytes:
    """A form with one face in a JPEG of 512 x 512."""
    buffer = io.BytesIO()
    Image.open(ASTRONAUT).resize((512, 512)).save(buffer, "jpeg", quality=90)
    begin = b'--b\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\n\r\n'
    return begin + buffer.getvalue() + b"\r\n--b--\r\n"


@contextmanager
def serving(state: Path) -> Iterator[tuple[psutil.Process, tuple[str, int]]]:
    """`mien serve` as a person starts it, with YuNet where its file is there, at a free port."""
    command = [sys.executable, "-m", "mien.cli.main", "serve", "--port", "0", "--state", str(state)]
    yunet = find_data_file(YUNET)
    command += ["--detector", "yunet", "--detector-model", str(yunet)] if yunet else ["--detector", "haar"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
        yield psutil.Process(process.pid), ("127.0.0.1", port)
    finally:
        process.terminate()
        process.wait()


class Client:
    """One connection that is kept open."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._line, self._body = HTTPConnection(*address, timeout=60), photo()

    def read(self) -> float:
        """Seconds until the answer is there; exits where it is not the face."""
        started = time.perf_counter()
        self._line.request("POST", "/v1/images", self._body, HEAD)
        answer = self._line.getresponse()
        document = json.loads(answer.read())
        if answer.status != 200 or len(document["faces"]) != 1:
            raise RuntimeError(f"{answer.status}: {document}")
        return time.perf_counter() - started


def format_quantiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {1000 * statistics.median(seconds):.1f} ms, p99 {1000 * p99:.1f} ms, n {len(seconds):,}"


def warm(address: tuple[str, int]) -> None:
    client = Client(address)
    for _ in range(20):
        client.read()


def latency(address: tuple[str, int], seconds: float) -> float:
    """One client, one request after the other; returns requests a second."""
    client, found, end = Client(address), [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        found.append(client.read())
    rate = len(found) / sum(found)
    print(f"latency  1 client: {format_quantiles(found)}, {rate:.1f} requests/s")
    return rate


def load(address: tuple[str, int], seconds: float, clients: int = 16) -> float:
    """Many clients for so long; returns requests a second."""
    end, errors = time.perf_counter() + seconds, Counter()

    def work(_: int) -> list[float]:
        client, found = Client(address), []
        while time.perf_counter() < end:
            try:
                found.append(client.read())
            except (RuntimeError, OSError) as error:
                errors[str(error)[:80]] += 1
                client = Client(address)
        return found

    with ThreadPoolExecutor(clients) as threads:
        found = [value for part in threads.map(work, range(clients)) for value in part]
    rate = len(found) / seconds
    print(
        f"load    {clients} clients for {seconds:.0f} s: {format_quantiles(found)}, {rate:.1f} requests/s, errors: {dict(errors) or 'none'}"
    )
    return rate


class Memory:
    """Resident memory of a process and those it started, in MB, watched while something goes on."""

    def __init__(self, process: psutil.Process) -> None:
        self._process, self._end = process, threading.Event()
        self.peak = self.peak_server = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def now(self) -> tuple[float, float]:
        """(the server's, that of all together)."""
        sizes = []
        for each in [self._process, *self._process.children(recursive=True)]:
            try:
                sizes.append(each.memory_info().rss / 1e6)
            except psutil.NoSuchProcess:
                continue  # it ended meanwhile
        return sizes[0], sum(sizes)

    def _watch(self) -> None:
        while not self._end.wait(0.05):
            server, everyone = self.now()
            self.peak_server, self.peak = max(self.peak_server, server), max(self.peak, everyone)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def hostile(process: psutil.Process, address: tuple[str, int], count: int, show: bool) -> bool:
    """Hostile uploads, eight at a time; returns whether all were answered and the service is well."""
    memory = Memory(process)
    before = memory.now()
    with memory, ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda each: send_attack(each, address), iterate_attacks(count)))
    for outcome in sorted(outcomes, key=lambda each: each.name) if show else ():
        print(
            f"  {outcome.status or 'closed':>6} {outcome.seconds:6.2f} s  {outcome.name}  {outcome.body[:110].decode('latin-1')!r}"
        )
    wrong = [outcome for outcome in outcomes if outcome.status >= 500]
    time.sleep(2)
    after = memory.now()
    line = HTTPConnection(*address, timeout=10)
    line.request("GET", "/healthz", headers={"host": "127.0.0.1"})
    health = json.loads(line.getresponse().read())["status"]
    statuses = Counter(outcome.status for outcome in outcomes)
    shown = ", ".join(f"{count} x {status or 'closed'}" for status, count in sorted(statuses.items()))
    print(f"hostile {len(outcomes)} uploads: {shown}; slowest {max(o.seconds for o in outcomes):.1f} s")
    print(f"        memory of the server {before[0]:.0f} MB before, {memory.peak_server:.0f} at most, {after[0]:.0f} after; "
          f"with its workers {before[1]:.0f}, {memory.peak:.0f}, {after[1]:.0f}; health afterwards: {health}")  # fmt: skip
    return not wrong and health == "ok"


def camera(address: tuple[str, int], seconds: float, size_wh: tuple[int, int] = (640, 480)) -> None:
    """Frames sent at 30 a second over the WebSocket: how many are answered, and after how long."""
    import struct

    from websockets.sync.client import connect

    buffer = io.BytesIO()
    Image.open(ASTRONAUT).resize(size_wh).save(buffer, "jpeg", quality=80)
    sent: dict[float, float] = {}
    found: list[float] = []
    with connect(f"ws://{address[0]}:{address[1]}/v1/camera") as line:
        end = time.perf_counter() + seconds

        def send() -> None:
            number = 0
            while time.perf_counter() < end:
                number += 1
                sent[number / 30] = time.perf_counter()
                line.send(struct.pack("<d", number / 30) + buffer.getvalue())
                time.sleep(max(0.0, end - seconds + number / 30 - time.perf_counter()))

        sender = threading.Thread(target=send)
        sender.start()
        while (left := end - time.perf_counter()) > 0 or not found:
            try:
                answer = json.loads(line.recv(timeout=left if found else 60))
            except TimeoutError:  # all that was sent is answered
                break
            found.append(time.perf_counter() - sent[answer["time_s"]])
        sender.join()
    print(
        f"camera  {size_wh[0]} x {size_wh[1]}: {len(found) / seconds:.1f} of 30 frames/s answered, {format_quantiles(found)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="latency, load, hostile, camera")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each of latency and load")
    parser.add_argument("--count", type=int, default=200, help="of hostile uploads, at least")
    parser.add_argument("--show", action="store_true", help="every hostile upload and its answer")
    options = parser.parse_args()
    parts = options.parts or ["latency", "load", "hostile", "camera"]
    well = True
    with tempfile.TemporaryDirectory() as state, serving(Path(state)) as (process, address):
        warm(address)
        if "latency" in parts:
            latency(address, options.seconds)
        if "load" in parts:
            load(address, options.seconds)
        if "camera" in parts:
            camera(address, min(20.0, options.seconds))
        if "hostile" in parts:
            well = hostile(process, address, options.count, options.show)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
