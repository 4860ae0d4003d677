from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mien.analysis.output.style import COLOR_PATTERN, parse_color
from mien.core.errors import UsageError
from mien.service.access.security import COOKIE, PUBLIC_PATHS
from mien.service.jobs.jobs import STATES
from tests.service.conftest import server, service

OPERATIONS = (
    "analyze_picture", "annotate_picture", "explain_face", "add_video", "get_capacity", "list_jobs", "get_job", "follow_job", "cancel_job",
    "remove_job", "get_result", "get_frames", "get_health", "get_metrics", "login", "logout", "get_settings", "list_models",
    "list_reports", "get_report",
)  # fmt: skip

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "use_after_free", "ensure_resource_availability",
)  # fmt: skip


def test_the_document_has_types_names_and_ways_to_sign_in(tmp_path: Path) -> None:
    with service(tmp_path, token="correct-horse") as client:
        document = client.get("/openapi.json").json()
    routes = {(method, path): route for path, methods in document["paths"].items() for method, route in methods.items()}
    names = sorted(route["operationId"] for route in routes.values())
    assert names == sorted(OPERATIONS)
    assert all(set(route["tags"]) <= {tag["name"] for tag in document["tags"]} for route in routes.values())
    for (method, path), route in routes.items():
        (status,) = {"200", "202", "204"} & set(route["responses"])
        for kind, content in route["responses"][status].get("content", {}).items():
            bare = content.get("schema", {}).keys() <= {"type", "title", "additionalProperties"}
            assert kind != "application/json" or not bare, (method, path)
        failure = route["responses"]["4XX"]["content"]["application/json"]["schema"]
        assert failure == {"$ref": "#/components/schemas/Failure"}
        assert route.get("security", document["security"]) == (
            [] if path in PUBLIC_PATHS else [{"bearer": []}, {"session": []}]
        )
    assert document["components"]["securitySchemes"]["session"]["name"] == COOKIE
    job = document["components"]["schemas"]["JobState"]["properties"]
    assert job["state"]["enum"] == list(STATES)
    with service(tmp_path) as client:
        assert "security" not in client.get("/openapi.json").json()


@pytest.mark.slow
def test_schemathesis_finds_no_answer_that_the_document_does_not_name(tmp_path: Path) -> None:
    """Thousands of requests that fit the document, and that do not: no 5xx, no undocumented status, type or shape."""
    pytest.importorskip("schemathesis")
    with server(tmp_path / "state") as (host, port):
        address = f"http://{host}:{port}/openapi.json"
        command = [sys.executable, "-m", "schemathesis.cli", "run", address, "--checks", ",".join(CHECKS)]
        options = [
            "--max-examples",
            "15",
            "--seed",
            "1",
            "--continue-on-failure",
            "--no-color",
            "--request-timeout",
            "120",
        ]
        done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"Tested: [12][0-9]", done.stdout), done.stdout[-3000:]


@pytest.mark.parametrize(
    "text",
    ["0,255,0", "#00fF00", "1,2,3", "255,255,255", "007,2,3", "256,0,0", "1,2", "1,2,3,4", "red", "reddish", "#12345", "", "1,2,3,", "1,2,3 "],
)  # fmt: skip
def test_the_document_takes_the_same_colors_as_the_service(text: str) -> None:
    try:
        parse_color(text)
        taken = True
    except UsageError:
        taken = False
    assert bool(re.search(COLOR_PATTERN, text)) is taken
