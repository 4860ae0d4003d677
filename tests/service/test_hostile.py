from __future__ import annotations

import gc
import json
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from hostile import iterate_attacks, make_damaged, make_polyglots, send_attack

from mien.core.memory import release_freed_memory
from tests.conftest import ASTRONAUT
from tests.service.conftest import PATIENCE_S, server


def used_memory() -> int:
    """Return the bytes that this process holds, without what trainings of other tests have glibc keep of freed memory."""
    gc.collect()
    release_freed_memory()
    return psutil.Process(os.getpid()).memory_info().rss


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of a process")
def test_two_hundred_hostile_uploads(tmp_path: Path) -> None:
    """Every one is answered with a reason or a closed connection, memory stays low, and all is well afterwards."""
    import http.client

    limits = {"idle_s": 4.0, "header_s": 4.0}
    with server(tmp_path / "state", limits=limits) as address:

        def good() -> dict:
            line = http.client.HTTPConnection(*address, timeout=PATIENCE_S)
            body = b'--a\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + ASTRONAUT.read_bytes()
            head = {"content-type": "multipart/form-data; boundary=a", "host": "127.0.0.1"}
            line.request("POST", "/v1/images", body + b"\r\n--a--\r\n", head)
            return json.load(line.getresponse())

        before = good()
        memory = used_memory()
        with ThreadPoolExecutor(8) as threads:
            outcomes = list(threads.map(lambda each: send_attack(each, address), iterate_attacks(200)))
        assert len(outcomes) >= 200
        bad = {o.name: (o.status, o.body[:200]) for o in outcomes if o.status >= 500 and o.status != 503}
        assert bad == {}
        for outcome in outcomes:
            if outcome.status >= 400 and outcome.body.startswith(b"{"):
                assert set(json.loads(outcome.body)["error"]) == {"name", "problem", "hint", "code", "parameters"}
        statuses = Counter(outcome.status for outcome in outcomes)
        assert {0, 200, 202, 400, 408, 413, 415, 422} <= set(statuses), statuses
        after = good()
        assert {**after, "seconds": 0} == {**before, "seconds": 0}
        assert used_memory() - memory < 900 * 2**20  # the test's own bombs are in this process too


def test_some_of_them_at_once(tmp_path: Path) -> None:
    with server(tmp_path / "state") as address, ThreadPoolExecutor(4) as threads:
        some = [*make_damaged(24, seed=1), *make_polyglots()]
        outcomes = list(threads.map(lambda each: send_attack(each, address), some))
    assert all(0 < outcome.status < 500 for outcome in outcomes), [(o.name, o.status) for o in outcomes]
