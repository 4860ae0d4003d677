from __future__ import annotations

import asyncio
import socket
import sqlite3
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import Headers
from starlette.websockets import WebSocketDisconnect

from mien.core.errors import OutputError
from mien.service.access import security
from mien.service.access.security import COOKIE, HEADERS, FailedSignIns, parse_session_cookies
from mien.service.access.sessions import FILE as SESSIONS
from mien.service.access.sessions import Sessions
from mien.service.config import Config, is_loopback
from mien.service.errors import RequestError
from mien.service.server import create_app
from tests.conftest import ASTRONAUT
from tests.service.conftest import HERE, PATIENCE_S, error_of, form, server, service, until

PHOTO = ASTRONAUT.read_bytes()
TOKEN = "correct-horse"


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "LOCALHOST", "127.0.0.2"])
def test_hosts_that_are_this_machine(client: TestClient, host: str) -> None:
    assert client.get("/v1/settings", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[", "192.168.1.5", "evil@127.0.0.1x"],
)
@pytest.mark.parametrize("path", ["/", "/v1/settings", "/healthz"])
def test_a_name_that_was_made_to_lead_here_is_refused(client: TestClient, host: str, path: str) -> None:
    assert error_of(client.get(path, headers={"host": host}), 403)["name"] == "host"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8000", "http://[", ""]
)
def test_other_sites_cannot_send(client: TestClient, origin: str) -> None:
    answer = client.post("/v1/images", headers={"origin": origin}, **form(PHOTO))
    assert error_of(answer, 403)["name"] == "origin"
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/v1/camera", headers={"origin": origin, "host": "127.0.0.1:8000"}),
    ):
        pass


def test_the_page_itself_can_send(client: TestClient) -> None:
    head = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert client.post("/v1/images", headers=head, **form(PHOTO)).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_cannot_embed_what_is_kept_here(client: TestClient, site: str) -> None:
    assert error_of(client.get("/v1/jobs", headers={"sec-fetch-site": site}), 403)["name"] == "sec-fetch-site"
    assert client.get("/docs", headers={"sec-fetch-site": site}).status_code == 200  # a link that leads here


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/settings", "/v1/nothing", "/v1/jobs/0123456789abcdef", "/docs"])
def test_every_answer_forbids_other_hosts_frames_and_guesses(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    for name in ("content-security-policy", "x-frame-options", "x-content-type-options", "referrer-policy"):
        assert headers[name] == HEADERS[name]
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    with service(tmp_path, token=TOKEN) as client:
        for path in ("/v1/settings", "/v1/jobs", "/metrics", "/v1/models", "/v1/reports"):
            answer = client.get(path)
            assert error_of(answer, 401)["name"] == "token"
            assert answer.headers["www-authenticate"] == "Bearer"
        assert error_of(client.post("/v1/images", **form(PHOTO)), 401)
        for wrong in ("Bearer wrong", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"):
            assert error_of(client.get("/v1/jobs", headers={"authorization": wrong}), 401)
        assert client.get("/v1/jobs", headers={"authorization": f"Bearer {TOKEN}"}).json() == []
        assert error_of(client.get("/v1/jobs", headers={"cookie": f"other=1; {COOKIE}={TOKEN}"}), 401)
        assert client.get("/healthz").json()["status"] == "ok"
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect("/v1/camera", headers={"host": "127.0.0.1:8000"}),
        ):
            pass
        assert refused.value.reason.startswith("token")


def test_signing_in_sets_a_cookie_that_scripts_cannot_read(tmp_path: Path) -> None:
    with service(tmp_path, token=TOKEN) as client:
        assert error_of(client.post("/v1/login", json={"token": "wrong"}), 401)["problem"] == "is wrong"
        for body in (b'{"token": "\\ud800"}', b'{"token": 1}', b"[" * 50_000, b"{}", b"\xff", b""):
            assert client.post("/v1/login", content=body).status_code in (400, 401, 422)
        answer = client.post("/v1/login", json={"token": TOKEN})
        cookie = answer.headers["set-cookie"].lower()
        assert "; httponly; max-age=604800; path=/; samesite=strict" in cookie and "; secure" not in cookie
        settings = client.get("/v1/settings")  # the client keeps cookies as a browser does
        assert settings.json()["needs_token"] is True
        head = {"host": "127.0.0.1:8000", "cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
        with client.websocket_connect("/v1/camera", headers=head):
            pass


def test_a_session_is_a_random_value_that_ends_with_the_sign_out(tmp_path: Path) -> None:
    with service(tmp_path, token=TOKEN) as client:
        values = []
        for _ in range(2):
            client.post("/v1/login", json={"token": TOKEN})
            values.append(client.cookies[COOKIE])
        assert len(set(values)) == 2 and all(len(value) == 43 for value in values)
        kept = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
        assert not any(secret.encode() in kept for secret in (TOKEN, *values))
        assert client.get("/v1/jobs").json() == []
        assert "max-age=0" in client.post("/v1/logout").headers["set-cookie"].lower()
        assert COOKIE not in client.cookies
        client.cookies.clear()
        for value, status in zip(
            values, (200, 401), strict=True
        ):  # the first sign-in, perhaps another browser's, stays
            assert client.get("/v1/jobs", headers={"cookie": f"{COOKIE}={value}"}).status_code == status
        assert client.post("/v1/logout").status_code == 204  # without a session, too
    with service(tmp_path, token=TOKEN) as client:  # after a restart
        assert client.get("/v1/jobs", headers={"cookie": f"{COOKIE}={values[0]}"}).json() == []
    with service(tmp_path, token="another-token") as client:
        assert client.get("/v1/jobs", headers={"cookie": f"{COOKIE}={values[0]}"}).status_code == 401


def test_sessions_expire(tmp_path: Path) -> None:
    now = 1000.0
    sessions = Sessions(tmp_path, TOKEN, lifetime_s=60, clock=lambda: now)
    first = sessions.begin()
    now += 59
    assert sessions.is_valid(first)
    now += 1
    assert not sessions.is_valid(first) and not sessions.is_valid("") and not sessions.is_valid("guess")
    sessions.begin()
    with sqlite3.connect(tmp_path / SESSIONS) as database:
        assert database.execute("SELECT COUNT(*) FROM sessions").fetchone() == (1,)  # what expired is removed
    database.close()
    sessions.close()


@pytest.mark.parametrize("proxies", [(), ("127.0.0.0/8",)])
def test_a_proxy_is_believed_only_where_it_is_trusted(tmp_path: Path, proxies: tuple[str, ...]) -> None:
    """What it says of the client's address and of TLS."""
    app = create_app(Config(tmp_path, detector="haar", token=TOKEN, proxies=proxies))
    with TestClient(app, base_url=HERE, client=("127.0.0.1", 50_000)) as client:

        def guess(address: str, token: str) -> int:
            head = {"x-forwarded-for": address, "authorization": f"Bearer {token}"}
            return client.get("/v1/jobs", headers=head).status_code

        assert [guess("8.8.8.8", f"guess {n}") for n in range(11)] == [401] * 10 + [429]
        assert guess("8.8.8.8", TOKEN) == 429
        assert guess("9.9.9.9", TOKEN) == (200 if proxies else 429)
        head = {"x-forwarded-for": "9.9.9.9", "x-forwarded-proto": "https"}
        answer = client.post("/v1/login", json={"token": TOKEN}, headers=head)
        assert ("; Secure" in answer.headers.get("set-cookie", "")) is bool(proxies)


def test_guessing_is_slowed_down(tmp_path: Path) -> None:
    with service(tmp_path, token=TOKEN) as client:
        statuses = [client.post("/v1/login", json={"token": f"guess {n}"}).status_code for n in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        assert client.post("/v1/login", json={"token": TOKEN}).status_code == 429  # even the right one tells nothing
        error = error_of(client.get("/v1/jobs", headers={"authorization": f"Bearer {TOKEN}"}), 429)
        assert (error["code"], error["name"]) == ("too_many_attempts", "sign-in")


def test_wrong_headers_are_counted_like_wrong_sign_ins(tmp_path: Path) -> None:
    with service(tmp_path, token=TOKEN) as client:
        client.post("/v1/login", json={"token": TOKEN})
        session = client.cookies[COOKIE]
        client.cookies.clear()
        wrong = [{"authorization": f"Bearer guess {n}"} for n in range(11)]
        assert [client.get("/v1/jobs", headers=head).status_code for head in wrong] == [401] * 10 + [429]
        assert client.post("/v1/login", json={"token": TOKEN}).status_code == 429
        assert client.get("/v1/jobs").status_code == 401  # who sends none does not guess
        assert client.get("/v1/jobs", headers={"cookie": f"{COOKIE}={session}"}).json() == []  # who signed in stays


def test_who_guesses_keeps_nobody_else_out() -> None:
    now = 0.0
    attempts = FailedSignIns(max_failures=2, clock=lambda: now)
    for _ in range(2):
        attempts.check_address("10.0.0.1")
        attempts.add_failure("10.0.0.1")
    attempts.check_address("10.0.0.2")
    with pytest.raises(RequestError, match="failed too often"):
        attempts.check_address("10.0.0.1")
    now = 61.0
    attempts.check_address("10.0.0.1")


@pytest.mark.parametrize("others", ['foo={"a":1}; ', "flag; ", "a b=1; ", "café=1; ", ""])
def test_cookies_of_other_programs_are_passed_over(others: str) -> None:
    headers = Headers(raw=[(b"cookie", f"{others}{COOKIE}={TOKEN}".encode("latin-1"))])
    assert parse_session_cookies(headers) == [TOKEN]


def test_of_two_services_of_one_host_each_finds_its_own_cookie() -> None:
    both = Headers(raw=[(b"cookie", f"{COOKIE}=own; {COOKIE}=other".encode())])
    assert parse_session_cookies(both) == ["own", "other"]


def test_damaged_sessions_are_named(tmp_path: Path) -> None:
    (tmp_path / "sessions.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(OutputError, match=r"sessions\.sqlite3: cannot be used .*; remove it"):
        Sessions(tmp_path, TOKEN, 60)


def test_a_reader_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(message: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(security, "SEND_TIMEOUT_S", 0.01)
    with pytest.raises(TimeoutError):
        asyncio.run(security._limit_send_time(never)({"type": "http.response.body"}))


def test_at_another_address_any_name_will_do_with_a_token_and_none_without(tmp_path: Path) -> None:
    head = {"host": "faces.example:8000", "authorization": f"Bearer {TOKEN}"}
    with service(tmp_path / "a", host="0.0.0.0", token=TOKEN) as client:
        assert client.get("/v1/jobs", headers=head).status_code == 200
    with service(tmp_path / "c", token=TOKEN) as client:  # behind a proxy
        assert client.get("/v1/jobs", headers=head).status_code == 200
    with service(tmp_path / "b", host="0.0.0.0", allow_insecure=True) as client:
        assert client.get("/v1/jobs", headers=head).status_code == 403
        assert client.get("/v1/jobs", headers={"host": "192.168.1.5:8000"}).status_code == 200
        assert client.get("/v1/jobs", headers={"host": f"{socket.gethostname()}:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.3.2.1", True), ("[::1]", True),
        ("0.0.0.0", False), ("::", False), ("192.168.0.1", False), ("faces.example", False), ("", False),
        ("localhost.evil.example", False), ("127.0.0.1.evil.example", False), ("8.8.8.8", False),
    ],
)  # fmt: skip
def test_addresses_that_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def talk(address: tuple[str, int], *parts: bytes) -> bytes:
    """Send bytes one after the other, and what comes back until the connection is closed."""
    with socket.create_connection(address, timeout=PATIENCE_S) as line:
        try:
            for part in parts:
                line.sendall(part)
        except ConnectionError:
            pass  # closed in the middle: what was answered before is still read
        return rest_of(line)


def rest_of(line: socket.socket) -> bytes:
    """What comes until the other side closes the connection; TimeoutError where it does not."""
    answer = b""
    try:
        while data := line.recv(65536):
            answer += data
    except ConnectionError:
        pass
    return answer


def post(*headers: str) -> bytes:
    lines = ["POST /v1/images HTTP/1.1", "Host: 127.0.0.1", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


FORM = "Content-Type: multipart/form-data; boundary=abc"
FILE = b'--abc\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HEALTH_ONCE = HEALTH[:-2] + b"Connection: close\r\n\r\n"


def test_who_sends_nothing_any_more_is_answered_and_cut_off(tmp_path: Path) -> None:
    with server(tmp_path, limits={"idle_s": 0.3}) as address:
        answer = talk(address, post(FORM, "Content-Length: 1000"), FILE)
        assert b"408" in answer.split(b"\r\n")[0]
        assert b"sent nothing" in answer
        assert b"200" in talk(address, HEALTH_ONCE)


def test_who_sends_drops_is_answered_and_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minutes = SimpleNamespace(monotonic=count(0, 60).__next__)  # a minute passes between any two looks at the clock
    monkeypatch.setattr(security, "time", minutes)
    with server(tmp_path) as address:
        answer = talk(address, post(FORM, "Content-Length: 1000000"), FILE, b"drop")
    assert b"408" in answer.split(b"\r\n")[0]
    assert b"sends less than 4,096 bytes a second" in answer


@pytest.mark.slow
def test_whose_headers_never_end_is_cut_off(tmp_path: Path) -> None:
    with server(tmp_path, limits={"header_s": 0.3}) as address:
        assert talk(address, b"POST /v1/images HTTP/1.1\r\nHost: 127") == b""
        assert talk(address) == b""

        def second_request() -> bytes | None:
            """What follows the answer to a first request; None where that one came too slowly itself."""
            with socket.create_connection(address, timeout=PATIENCE_S) as line:
                line.sendall(HEALTH)
                answer = line.recv(65536)
                line.sendall(b"GET /he")
                return rest_of(line) if b"HTTP/1.1 200" in answer else None

        assert until(lambda: second_request() is not None)


def test_who_sends_more_than_may_be_is_cut_off(tmp_path: Path) -> None:
    with server(tmp_path, limits={"picture_bytes": 200_000}) as address:
        first = b"%x\r\n%s\r\n" % (len(FILE), FILE)
        chunks = [b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 50
        endless = talk(address, post(FORM, "Transfer-Encoding: chunked"), first, *chunks)
        assert b"413" in endless.split(b"\r\n")[0] or endless == b""
        stated = talk(address, post(FORM, "Content-Length: 99999999999999999999999"), FILE)
        assert stated.startswith(b"HTTP/1.1 4")
        assert b"200" in talk(address, HEALTH_ONCE)


def test_only_so_many_at_the_same_time(tmp_path: Path) -> None:
    """Two senders that hold their places with half a request; the third is told to come back."""
    with server(tmp_path, limits={"pictures": 2, "idle_s": PATIENCE_S}) as address:
        lines = [socket.create_connection(address) for _ in range(2)]
        for line in lines:
            line.sendall(post(FORM, "Content-Length: 1000") + FILE)

        def refused() -> bytes | None:
            answer = talk(address, post(FORM, "Content-Length: 0", "Connection: close"))
            return answer if b"429" in answer.split(b"\r\n")[0] else None

        answer = until(refused)
        assert b"retry-after: 1" in answer.lower()
        assert b"2 places" in answer
        assert b"200" in talk(address, HEALTH_ONCE)
        for line in lines:
            line.close()
        until(lambda: b"422" in talk(address, post(FORM, "Content-Length: 0", "Connection: close")))


@pytest.mark.parametrize(
    "path",
    [
        "/page/../cli.py", "/page/..%2fcli.py", "/page/%2e%2e/cli.py", "/page//etc/passwd", "/page/..\\cli.py",
        "/page/%00", "/page/index.html%00.js", "/page/", "/page/....//cli.py",
    ],
)  # fmt: skip
def test_the_page_leads_nowhere_else(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 307)
    raw = client.request("GET", "http://127.0.0.1:8000" + path)
    assert b"import typer" not in raw.content
    assert b"root:" not in raw.content


def test_a_fault_of_ours_is_an_answer_like_others_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("mien.service.images.annotate", broken)
    app = create_app(Config(tmp_path, detector="haar"))
    with TestClient(app, base_url=HERE, raise_server_exceptions=False) as client:
        answer = client.post("/v1/images/annotated", **form(PHOTO))
        assert "ZeroDivisionError" in error_of(answer, 500)["problem"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        metrics = client.get("/metrics").text
    assert 'mien_requests_total{method="POST",route="/v1/images/annotated",status="500"} 1.0' in metrics
