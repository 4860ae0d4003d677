"""The page behind a proxy that serves it below a path, in Chromium. Whatever it asks for outside that path fails a test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.page.steps import Open, open_job, read, send, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service below ``/mien/``, behind a proxy that takes this away."""
    pytest.importorskip("fastapi", reason="the service needs its extra: pip install 'mien[serve]'")
    from mien.service.config import Config
    from mien.service.server import create_app, make_server, open_listener
    from tests.service.access.test_addresses import stripping
    from tests.service.conftest import until

    listener = open_listener("127.0.0.1", 0)
    port = listener.getsockname()[1]
    config = Config(
        tmp_path_factory.mktemp("state"), detector="haar", port=port, token="open-sesame", root_path="/mien"
    )
    app = create_app(config)
    proxy: Any = stripping(app, "/mien")
    proxy.state = app.state
    server = make_server(proxy, config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{port}/mien/"
    server.should_exit = True
    thread.join(20)
    listener.close()


def test_everything_works_below_a_path(opened: Open, prefixed: str, two_faces: Path, clip: Path) -> None:
    page = opened(address=prefixed, ready=False, expected=("status of 401",))
    page.get_by_role("textbox", name="Token").fill("open-sesame")
    page.keyboard.press("Enter")
    page.wait_for_selector("html[data-ready]")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.sprite')).position") == "absolute"
    )  # the style sheet
    assert page.context.cookies()[0]["path"] == "/mien/"
    read(page, two_faces)
    assert page.locator(".chip").count() == 2
    page.goto(f"{prefixed}#video")
    send(page, clip)  # its events come through the same path
    open_job(page, clip.name)
    page.wait_for_selector(".js-plotly-plot")
    page.goto(f"{prefixed}#camera")
    page.get_by_role("button", name="Turn the camera on").click()
    until(page, "document.querySelector('#camera-bars .most .value')?.textContent.endsWith('%')")
    page.goto(f"{prefixed}#library")
    page.get_by_role("heading", name="base", exact=True).first.wait_for()
    page.goto(f"{prefixed}#settings")
    with page.expect_popup() as popup:
        page.locator("#panel-settings a[href=docs]").click()
    assert popup.value.url == f"{prefixed}docs"
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("textbox", name="Token").wait_for()
    assert page.context.cookies() == []
