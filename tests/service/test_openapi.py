from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mien.core.errors import UsageError
from mien.service.parameters import COLOUR, colour_of
from tests.service.conftest import server

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "use_after_free", "ensure_resource_availability",
)  # fmt: skip


@pytest.mark.slow
def test_schemathesis_finds_no_answer_that_the_document_does_not_name(tmp_path: Path) -> None:
    """Thousands of requests that fit the document, and that do not: no 5xx, no undocumented status, type or shape."""
    pytest.importorskip("schemathesis")
    with server(tmp_path / "state") as (host, port):
        address = f"http://{host}:{port}/openapi.json"
        command = [sys.executable, "-m", "schemathesis.cli", "run", address, "--checks", ",".join(CHECKS)]
        options = ["--max-examples", "15", "--seed", "1", "--continue-on-failure", "--no-color"]
        done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"Tested: 1[0-9]", done.stdout), done.stdout[-3000:]


@pytest.mark.parametrize(
    "text",
    ["0,255,0", "#00fF00", "1,2,3", "255,255,255", "007,2,3", "256,0,0", "1,2", "1,2,3,4", "red", "#12345", "", "1,2,3,", "1,2,3 "],
)  # fmt: skip
def test_the_document_takes_the_same_colours_as_the_service(text: str) -> None:
    try:
        colour_of(text)
        taken = True
    except UsageError:
        taken = False
    assert bool(re.search(COLOUR, text)) is taken
