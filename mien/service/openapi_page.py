"""The OpenAPI document, and a page in plain HTML for it: the usual pages load their scripts from another host."""

from __future__ import annotations

import html
from typing import Any

from fastapi import FastAPI

from mien.service.access.security import COOKIE, PUBLIC_PATHS
from mien.service.answers import Failure

STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}"
    "h2{font-size:1.05rem;margin:2rem 0 .2rem;border-top:1px solid #8884;padding-top:1rem;overflow-wrap:anywhere}"
    "h2 b{font-size:.8rem}td{padding:.1rem 1rem .1rem 0;vertical-align:top;overflow-wrap:anywhere}td:first-child{font-family:"
    "monospace}p{margin:.3rem 0}.answers{opacity:.75;font-size:.9rem}"
)

#: OpenAPI knows no WebSockets.
CAMERA = (
    "<h2><b>WebSocket</b> <code>/v1/camera</code></h2><p>Frames in, faces out: 8 bytes, the time in seconds as a little-endian"
    " float64, and a picture; the answers are JSON. model, detector, detector_threshold, people and smoothing as above.</p>"
)


TAGS = [
    {"name": "pictures", "description": "Pictures, read at once."},
    {"name": "videos", "description": "Videos, each of which is a job."},
    {"name": "service", "description": "What there is, signing in, health."},
]

#: How a client says that it may ask.
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "the token that the service was started with"},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "the cookie that /v1/login sets"},
}


def make_openapi_document(app: FastAPI, *, needs_token: bool) -> dict[str, Any]:
    """Return the OpenAPI document with the ways to sign in. It is made once."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        app.openapi_schema = document
        failure = Failure.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"] |= failure.pop("$defs") | {"Failure": failure}
        document["components"]["securitySchemes"] = SCHEMES
        if needs_token:
            document["security"] = [{name: []} for name in SCHEMES]
            for path in set(PUBLIC_PATHS) & set(document["paths"]):
                for route in document["paths"][path].values():
                    route["security"] = []
    return app.openapi_schema


def render_openapi_page(document: dict[str, Any]) -> str:
    """Render an OpenAPI document as one page that loads nothing."""
    routes = [
        _render_route(method, path, route)
        for path, methods in document["paths"].items()
        for method, route in methods.items()
    ]
    title, version = html.escape(document["info"]["title"]), html.escape(document["openapi"])
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1><p>{html.escape(document['info']['description'])}</p>"
        f"<p><a href=openapi.json>openapi.json</a> (OpenAPI {version})</p>{''.join(routes)}{CAMERA}</html>"
    )


def _render_route(method: str, path: str, route: dict[str, Any]) -> str:
    text = html.escape(route.get("description") or route.get("summary", ""))
    rows = "".join(_render_parameter(parameter) for parameter in route.get("parameters", []))
    if "requestBody" in route:
        kinds = html.escape(", ".join(route["requestBody"]["content"]))
        field = "file" if "multipart" in kinds else "body"
        rows += f"<tr><td>{field}</td><td>{kinds}</td><td></td></tr>"
    table = f"<table>{rows}</table>" if rows else ""
    answers = html.escape(", ".join(route["responses"]))
    head = f"<h2><b>{method.upper()}</b> <code>{html.escape(path)}</code></h2>"
    return f"{head}<p>{text}</p>{table}<p class=answers>answers: {answers}</p>"


def _render_parameter(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    kind = " | ".join(value for value in schema["enum"] if value) if "enum" in schema else schema.get("type", "")
    if schema.get("default", "") != "":
        kind += f", default {schema['default']}"
    cells = parameter["name"], kind, parameter.get("description", "")
    return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"
