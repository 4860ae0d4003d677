from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from mien.core.errors import UsageError
from mien.service.access.addresses import clean_root_path
from mien.service.config import Config
from mien.service.server import create_app
from tests.conftest import ASTRONAUT
from tests.service.conftest import HERE, error_of, form

TOKEN = "correct-horse"


def stripping(app: ASGIApp, prefix: str) -> ASGIApp:
    """A proxy that passes on what lies below ``prefix``, without it, as ``proxy_pass http://…/;`` of nginx does."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            assert scope["path"].startswith(f"{prefix}/"), scope["path"]
            scope = scope | {"path": scope["path"].removeprefix(prefix)}
        await app(scope, receive, send)

    return proxy


@pytest.mark.parametrize("strips", [True, False])
def test_behind_a_proxy_all_addresses_begin_with_the_root_path(tmp_path: Path, strips: bool) -> None:
    app: Any = create_app(Config(tmp_path, detector="haar", token=TOKEN, root_path="/mien"))
    with TestClient(stripping(app, "/mien") if strips else app, base_url=HERE) as client:
        page = client.get("/mien/")
        assert page.status_code == 200
        for address in re.findall(r'(?:src|href)="([^"#]+)"', page.text):
            assert client.get(f"/mien/{address}").status_code == 200, address
        assert "href=openapi.json" in client.get("/mien/docs").text
        assert client.get("/mien/openapi.json").json()["servers"] == [{"url": "/mien"}]
        assert error_of(client.get("/mien/v1/jobs"), 401)["name"] == "token"
        cookie = client.post("/mien/v1/login", json={"token": TOKEN}).headers["set-cookie"]
        assert "; Path=/mien/;" in cookie
        assert client.get("/mien/v1/jobs").json() == []
        assert client.get("/mien/v1/jobs/", follow_redirects=False).headers["location"] == f"{HERE}/mien/v1/jobs"
        assert len(client.post("/mien/v1/images", **form(ASTRONAUT.read_bytes())).json()["faces"]) == 1
        job = sent_to(client, "/mien/v1/videos")
        assert client.delete(f"/mien/v1/jobs/{job}").status_code == 204


def sent_to(client: TestClient, address: str) -> str:
    answer = client.post(address, files={"file": ("clip.mp4", bytes(1000))})
    assert answer.status_code == 202, answer.text
    return answer.json()["job"]["id"]


def test_an_address_without_its_last_slash_leads_to_the_page(tmp_path: Path) -> None:
    with TestClient(create_app(Config(tmp_path, detector="haar", root_path="/mien")), base_url=HERE) as client:
        answer = client.get("/mien", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (308, "/mien/")
        assert client.get("/mienx").status_code == 404


def test_nothing_that_the_page_asks_for_begins_at_the_root() -> None:
    """Addresses begin where the page lies, so that it works below any path."""
    from mien.service.site import PAGE

    for file in sorted(PAGE.iterdir()):
        text = re.sub(r"/\*.*?\*/|^\s*//.*$", "", file.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert re.findall(r"""["'`(]/(?:v1|page|docs|openapi|favicon)\b[^"'`]*""", text) == [], file.name


@pytest.mark.parametrize(
    ("text", "path"), [("", ""), ("/", ""), ("mien", "/mien"), ("/mien/", "/mien"), ("/a/b-c_d.e~1", "/a/b-c_d.e~1")]
)
def test_root_paths(text: str, path: str) -> None:
    assert clean_root_path(text) == path


@pytest.mark.parametrize("text", ["/a b", "https://x/mien", "/a//b", "/a?b", "/..", "/a/../b", "/ä", "/a;b"])
def test_what_is_no_root_path(text: str) -> None:
    with pytest.raises(UsageError, match="`root_path="):
        clean_root_path(text)
