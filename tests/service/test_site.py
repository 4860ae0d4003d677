from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from mien.analysis.inference.model_file import ModelInfo, list_shipped_models, read_model_info
from mien.analysis.output.palette import COLORS
from mien.core.errors import ModelError, UsageError
from mien.core.labels import CANONICAL
from mien.service.config import Config
from mien.service.server import create_app
from mien.service.site import find_reports
from tests.conftest import ASTRONAUT
from tests.service.conftest import error_of, form, service


def test_what_the_service_says_of_itself(client: TestClient) -> None:
    settings = client.get("/v1/settings").json()
    info: ModelInfo = read_model_info(list_shipped_models()["base"])
    assert settings["labels"] == list(info.labels)
    assert (settings["default_model"], settings["needs_token"]) == ("base", False)
    assert set(settings["detectors"]) == {"auto", "haar", "none"}
    assert settings["limits"]["picture_bytes"] == Config(Path()).limits.picture_bytes
    assert all(re.fullmatch("#[0-9a-f]{6}", settings["colors"][name]) for name in info.labels)
    assert settings["colors"]["contempt"] == COLORS["contempt"]  # of another model that may be chosen


def test_addresses_that_no_file_can_have_do_not_exist(client: TestClient) -> None:
    for name in ("a" * 300, "a%00b", "..%2f..%2fcli.py"):
        assert error_of(client.get(f"/page/{name}"), 404)["problem"] == "does not exist"


def test_models_of_one_name_or_that_are_none_are_told_at_the_start(tmp_path: Path, model_file: Path) -> None:
    other = tmp_path / model_file.name
    shutil.copy(model_file, other)
    with pytest.raises(UsageError, match=f"`model={model_file.stem}`: is the name of "):
        create_app(Config(tmp_path / "state", models=(str(model_file), str(other))))
    other.write_bytes(b"no model")
    with pytest.raises(ModelError, match="is not an ONNX file"):
        create_app(Config(tmp_path / "state", models=("base", str(other))))


def test_models_and_their_cards(client: TestClient) -> None:
    base, ferplus, large, nano = client.get("/v1/models").json()
    info, path = read_model_info(list_shipped_models()["base"]), list_shipped_models()["base"]
    assert (base["name"], base["kind"], base["labels"]) == ("base", "shipped", list(info.labels))
    assert (base["bytes"], base["scores"], base["license"]) == (path.stat().st_size, info.scores, info.license)
    assert base["card"] == path.with_suffix(".md").read_text(encoding="utf-8")
    assert base["parameters"] * 2 < base["bytes"] < base["parameters"] * 2 * 1.1  # weights in 16 bits, and little else
    assert base["precision"] == "float16"
    assert ferplus["labels"] == list(CANONICAL) and ferplus["scores"]["labels_by"] == "annotators"
    assert [(model["name"], model["kind"]) for model in (large, nano)] == [("large", "shipped"), ("nano", "shipped")]


def test_a_model_of_ones_own_stands_beside_those_that_ship(tmp_path: Path, model_file: Path) -> None:
    with service(tmp_path, models=(str(model_file), "base")) as client:
        settings = client.get("/v1/settings").json()
        assert (settings["models"], settings["default_model"]) == (
            ["small", "base", "ferplus", "large", "nano"],
            "small",
        )
        kinds = {model["name"]: (model["kind"], model["card"]) for model in client.get("/v1/models").json()}
        assert kinds["small"] == ("local", None)
        photo = ASTRONAUT.read_bytes()
        both = [client.post(f"/v1/images?model={name}", **form(photo)).json() for name in ("small", "base")]
        assert next(answer["faces"][0]["box"] for answer in both) == both[1]["faces"][0]["box"]
        assert both[0]["faces"][0]["probabilities"] != both[1]["faces"][0]["probabilities"]


def test_reports_are_found_by_folder_and_shown_in_a_sandbox(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    for place in ("a", "b/c & d", "."):
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / "report.html").write_text(f"<p>{place}</p>")
    (folder / "a" / "compare.html").write_text("<p>two models</p>")
    (folder / "other.html").write_text("secret")
    with service(tmp_path / "state", reports=folder) as client:
        found = client.get("/v1/reports").json()
        assert sorted(report["name"] for report in found) == ["a", "a~compare", "b~c & d", "reports"]
        for report in found:
            answer = client.get(report["href"])
            assert answer.text.startswith("<p>")
            assert "sandbox" in answer.headers["content-security-policy"]
            assert "allow-same-origin" not in answer.headers["content-security-policy"]
        for name in ("other", "other.html", "a/../../other.html", "..%2fother.html"):
            assert "secret" not in error_of(client.get(f"/v1/reports/{name}"), 404).values()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "report.html").write_text("secret")
    (folder / "x").mkdir()
    (folder / "x" / "report.html").symlink_to(outside / "report.html")
    (folder / "y").symlink_to(outside, target_is_directory=True)
    (folder / "z").symlink_to(folder / "a", target_is_directory=True)  # stays inside
    assert {"x", "y"}.isdisjoint(find_reports(folder))
    assert find_reports(None) == find_reports(tmp_path / "absent") == {}


def test_the_document_names_every_route_and_loads_nothing_from_elsewhere(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    page = client.get("/docs").text
    for path in ("/v1/images", "/v1/videos", "/v1/jobs/{job_id}", "/v1/models", "/healthz", "/metrics"):
        assert path in document["paths"]
        assert path in page
    assert "file" in json.dumps(document["paths"]["/v1/images"]["post"]["requestBody"])
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "<script" not in page


def test_metrics_count_what_happens_and_name_no_address(tmp_path: Path) -> None:
    with service(tmp_path) as client:
        for _ in range(3):
            client.post("/v1/images", **form(ASTRONAUT.read_bytes()))
        client.post("/v1/images", **form(b"nothing"))
        client.get("/some/secret/address")
        client.get(f"/v1/jobs/{'0' * 16}")
        client.app.state.service.runner._on_crash()
        text = client.get("/metrics").text
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, flags=re.MULTILINE))
    assert {name for name, kind in types.items() if kind == "gauge" and not name.endswith("_created")} == {"mien_jobs"}
    values = dict(re.findall(r"^(\w+(?:\{.*\})?) ([\d.e+]+)$", text, flags=re.MULTILINE))
    assert values['mien_requests_total{method="POST",route="/v1/images",status="200"}'] == "3.0"
    assert values['mien_requests_total{method="POST",route="/v1/images",status="422"}'] == "1.0"
    assert values['mien_requests_total{method="GET",route="/v1/jobs/{job_id}",status="404"}'] == "1.0"
    assert (values["mien_faces_total"], values["mien_batch_crops_count"]) == ("3.0", "3.0")
    assert values['mien_jobs{state="queued"}'] == "0.0"
    assert (values["mien_worker_crashes_total"], values["mien_decoders_replaced_total"]) == ("1.0", "0.0")
    assert "secret" not in text


def test_what_is_not_there(client: TestClient) -> None:
    assert error_of(client.get("/v1/nothing"), 404)
    assert error_of(client.get("/page/nothing.js"), 404)
    assert error_of(client.delete("/v1/images"), 405)
    assert error_of(client.get(f"/v1/jobs/{'g' * 16}"), 422)["name"] == "path.job_id"


def test_the_charts_script_comes_out_of_the_wheel(client: TestClient) -> None:
    import plotly

    file = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    answer = client.get("/page/plotly.min.js")
    assert answer.content == file.read_bytes()
    assert answer.headers["content-type"].startswith("text/javascript")
