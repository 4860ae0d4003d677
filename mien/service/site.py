"""Routes of the page, settings, models, reports, sign-in, health, and the OpenAPI document."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from mien import __version__
from mien.analysis.inference.model_file import PULLABLE_MODELS, find_pulled_model, list_shipped_models, read_model_info
from mien.analysis.output.palette import colors_for_labels
from mien.analysis.output.timeline_page import CHART_SCRIPT
from mien.service.access.security import COOKIE, OLD_COOKIE, get_client_address, parse_session_cookies
from mien.service.answers import Health, ModelFacts, ReportLink, ServiceFacts, SignedIn
from mien.service.config import Config
from mien.service.errors import RequestError, make_not_found_error
from mien.service.openapi_page import render_openapi_page
from mien.service.parameters import get_service
from mien.service.recognition import saliency
from mien.service.recognition.recognition import RecognizerPool

router = APIRouter()

PAGE = Path(__file__).resolve().parent / "page"

#: Files of the page by ending: the system's own table of types may say other things.
TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json", ".woff2": "font/woff2", ".mjs": "text/javascript; charset=utf-8",
    ".jpg": "image/jpeg",
}  # fmt: skip

#: What a report may do: run the scripts inside it. It cannot reach the service.
SANDBOX = "sandbox allow-scripts allow-downloads allow-popups; default-src 'unsafe-inline' data: blob:"

MAX_REPORTS = 500


@router.head("/", include_in_schema=False)
@router.get("/", response_class=HTMLResponse, include_in_schema=False)
async def get_index() -> Response:
    return answer_page_file("index.html")


@router.head("/page/{path:path}", include_in_schema=False)
@router.get("/page/{path:path}", include_in_schema=False)
async def get_page(path: str) -> Response:
    if path == "plotly.min.js":
        return answer_plotly()
    if path == CHART_SCRIPT.name:
        return answer_file(CHART_SCRIPT)
    return answer_page_file(path)


@router.get("/favicon.ico", include_in_schema=False)
async def get_icon() -> Response:
    """Return the icon that a browser requests by itself, on /docs too."""
    return answer_page_file("icon.svg")


def answer_page_file(path: str) -> Response:
    """Return a file of the page. Paths that lead out of its folder do not exist."""
    try:
        file = (PAGE / path).resolve()
        known = file.is_relative_to(PAGE) and file.is_file() and file.suffix in TYPES
    except (OSError, ValueError):  # too long a name, or a zero byte in it
        known = False
    if not known:
        raise make_not_found_error(f"/page/{path[:100]}")
    return answer_file(file)


def answer_file(file: Path) -> Response:
    return FileResponse(file, media_type=TYPES[file.suffix], headers={"cache-control": "no-cache"})


def answer_plotly() -> Response:
    """Return the charts' script from plotly's own package."""
    spec = find_spec("plotly")
    file = Path(spec.origin).parent / "package_data" / "plotly.min.js" if spec and spec.origin else None
    if file is None or not file.is_file():
        raise RequestError(
            404,
            "missing_extra",
            "plotly",
            "is not installed and is needed for charts",
            "pip install 'mien[serve]'",
            package="plotly",
            extra="serve",
        )
    return FileResponse(file, media_type=TYPES[".js"], headers={"cache-control": "max-age=86400"})


@router.get("/healthz", tags=["service"], response_model=Health)
async def get_health() -> dict[str, str]:
    """Say that the service answers."""
    return {"status": "ok", "version": __version__}


@router.get("/metrics", tags=["service"], response_class=Response)
async def get_metrics(request: Request) -> Response:
    """Return counts for Prometheus."""
    service = get_service(request)
    return Response(service.metrics.render(service), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.post("/v1/login", tags=["service"], response_model=SignedIn)
async def login(request: Request, token: Annotated[str, Body(embed=True, max_length=1000)]) -> Response:
    """Give the token, and a cookie holds a session from then on: for what a browser fetches by itself."""
    service = get_service(request)
    service.access.check_token(token, get_client_address(request.scope))
    answer = JSONResponse({"ok": True})
    answer.delete_cookie(OLD_COOKIE)
    if service.config.token:
        secure = "https" in (request.url.scheme, request.headers.get("origin", "")[:5])  # a proxy before us speaks it
        value, path = service.sessions.begin(), f"{service.config.root_path}/"
        age = int(service.sessions.lifetime_s)
        answer.set_cookie(COOKIE, value, age, path=path, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/v1/logout", tags=["service"], status_code=204, response_class=Response)
async def logout(request: Request) -> Response:
    """End the session, and remove its cookie."""
    service = get_service(request)
    for value in parse_session_cookies(request.headers):
        service.sessions.end(value)
    answer = Response(status_code=204)
    answer.delete_cookie(OLD_COOKIE)
    answer.delete_cookie(COOKIE, path=f"{service.config.root_path}/", httponly=True, samesite="strict")
    return answer


@router.get("/v1/settings", tags=["service"], response_model=ServiceFacts)
async def get_settings(request: Request) -> dict[str, Any]:
    """Return the features of this service, and its limits."""
    service = get_service(request)
    config, recognizers = service.config, service.recognizers
    labels = recognizers.get_classifier(recognizers.default_model).labels
    names = ("picture_bytes", "picture_pixels", "video_bytes", "video_seconds", "jobs")
    return {
        "version": __version__, "models": list(recognizers.models), "default_model": recognizers.default_model,
        "detectors": recognizers.detectors, "default_detector": config.detector, "labels": list(labels),
        "saliency": saliency.is_available(), "saliency_methods": list(saliency.METHODS),
        "limits": {name: getattr(config.limits, name) for name in names}, "retention_s": config.retention_s,
        "needs_token": bool(config.token), "colors": dict(zip(recognizers.labels, colors_for_labels(recognizers.labels), strict=True)),
    }  # fmt: skip


@router.get("/v1/models", tags=["service"], response_model=list[ModelFacts])
async def list_models(request: Request) -> list[dict[str, Any]]:
    """List the models that can be requested, and the pulled detector."""
    service = get_service(request)
    return await service.recognizers.run_in_thread(describe_models, service.recognizers, service.config)


def describe_models(recognizers: RecognizerPool, config: Config) -> list[dict[str, Any]]:
    rows = [_describe_model(name, path) for name, path in recognizers.models.items()]
    for name, known in PULLABLE_MODELS.items():
        file = config.detector_model or find_pulled_model(name)
        if file is not None:
            rows.append({
                "name": name, "labels": [], "parameters": None, "bytes": file.stat().st_size, "precision": None, "scores": {},
                "license": known.license, "card": f"# {name}\n\n{known.description}\n", "kind": "pulled",
            })  # fmt: skip
    return rows


def _describe_model(name: str, path: Path) -> dict[str, Any]:
    info, card = read_model_info(path), path.with_suffix(".md")
    return {
        "name": name, "labels": list(info.labels), **_describe_weights(path, info.quantized), "bytes": path.stat().st_size,
        "scores": info.scores, "license": info.license,
        "card": card.read_text(encoding="utf-8") if card.is_file() else None,
        "kind": "shipped" if list_shipped_models().get(name) == path else "local",
    }  # fmt: skip


def _describe_weights(path: Path, is_quantized: bool) -> dict[str, Any]:
    """Return the number of weights, and how most of them are stored; None if onnx, which reads them, is not installed."""
    if find_spec("onnx") is None:
        return {"parameters": None, "precision": "int8" if is_quantized else None}
    import math

    import onnx

    stored: Counter[str] = Counter()
    for tensor in onnx.load(str(path)).graph.initializer:
        stored[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += math.prod(tensor.dims)
    precision = stored.most_common(1)[0][0] if stored else "float"
    return {"parameters": stored.total(), "precision": "float32" if precision == "float" else precision}


def find_reports(folder: Path | None) -> dict[str, Path]:
    """Name → file of what `mien report` and `mien compare` wrote below a folder: the name is the folder in which one lies,
    for a comparison with ``~compare`` behind it. Links out of the folder are passed over."""
    if folder is None or not folder.is_dir():
        return {}
    reports, root = {}, folder.resolve()
    for file in sorted([*folder.rglob("report.html"), *folder.rglob("compare.html")])[:MAX_REPORTS]:
        if not file.resolve().is_relative_to(root):  # a link that leads out of the folder
            continue
        name = "~".join(file.relative_to(folder).parent.parts) or root.name or "report"
        reports[name if file.name == "report.html" else f"{name}~compare"] = file
    return reports


@router.get("/v1/reports", tags=["service"], response_model=list[ReportLink])
async def list_reports(request: Request) -> list[dict[str, str]]:
    """List the reports in the folder that was given at the start; ``href`` is relative to the service's address."""
    from urllib.parse import quote

    reports = await get_service(request).recognizers.run_in_thread(find_reports, get_service(request).config.reports)
    return [{"name": name, "href": f"v1/reports/{quote(name, safe='')}"} for name in reports]


@router.get("/v1/reports/{name}", tags=["service"], response_class=HTMLResponse)
async def get_report(request: Request, name: str) -> Response:
    """Return one report."""
    reports = await get_service(request).recognizers.run_in_thread(find_reports, get_service(request).config.reports)
    if name not in reports:
        raise make_not_found_error(f"report {name[:100]!r}")
    headers = {"content-security-policy": SANDBOX, "x-frame-options": "SAMEORIGIN"}
    return FileResponse(reports[name], media_type=TYPES[".html"], headers=headers)


@router.get("/docs", response_class=HTMLResponse, include_in_schema=False)
async def get_docs(request: Request) -> HTMLResponse:
    """Return the interface as a page that needs no other host."""
    return HTMLResponse(render_openapi_page(request.app.openapi()))
