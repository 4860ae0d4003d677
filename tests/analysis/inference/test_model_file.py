from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mien.analysis.inference.model_file import (
    PULLABLE_MODELS,
    find_pulled_model,
    list_shipped_models,
    pull_model,
    read_model_info,
)
from mien.core.errors import ModelError
from tests.conftest import yunet


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """The test's output stays clean."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """(folder that is served, its address)."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_file_is_fetched_checked_and_kept(server: tuple[Path, str], cache: Path) -> None:
    folder, address = server
    (folder / "yunet.onnx").write_bytes(yunet().read_bytes())
    assert find_pulled_model("yunet") is None
    path = pull_model("yunet", f"{address}/yunet.onnx")
    assert path == find_pulled_model("yunet") == cache / PULLABLE_MODELS["yunet"].file
    (folder / "yunet.onnx").unlink()
    assert pull_model("yunet", f"{address}/yunet.onnx") == path  # it is here: nothing is fetched


def test_another_file_is_refused_and_not_kept(server: tuple[Path, str], cache: Path) -> None:
    folder, address = server
    (folder / "yunet.onnx").write_bytes(b"something else")
    with pytest.raises(ModelError, match="its SHA-256 differs"):
        pull_model("yunet", f"{address}/yunet.onnx")
    assert find_pulled_model("yunet") is None
    assert list(cache.iterdir()) == []


def test_addresses_that_do_not_answer_and_unknown_names(server: tuple[Path, str]) -> None:
    with pytest.raises(ModelError, match=r"could not be fetched \(HTTPError\)"):
        pull_model("yunet", f"{server[1]}/absent.onnx")
    with pytest.raises(ModelError, match=r"could not be fetched \(ConnectionError\)"):
        pull_model("yunet", "http://127.0.0.1:9/x")
    with pytest.raises(ModelError, match="cannot be pulled; choose one of yunet"):
        pull_model("retinaface")


def test_the_shipped_model_is_small_and_says_what_it_is() -> None:
    path = list_shipped_models()["base"]
    info = read_model_info(path)
    assert path.stat().st_size <= 12 * 1024 * 1024
    assert (info.name, info.labels[3], info.license) == ("base", "happy", "MIT")
    assert path.with_suffix(".md").is_file()
