"""All errors as JSON: ``{"error": {"name", "problem", "hint", "code", "parameters"}}`` with their HTTP status."""

from __future__ import annotations

import sqlite3
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mien.core.errors import MediaError, MienError, MissingExtra, OutputError, UsageError

#: What a MienError answers with, by its kind; the first that fits.
STATUS_OF: tuple[tuple[type[MienError], int], ...] = (
    (MissingExtra, 501),
    (MediaError, 422),
    (UsageError, 422),
    (OutputError, 503),
    (MienError, 422),
)


class RequestError(HTTPException):
    """An error that refuses a request: the HTTP status, the headers of the answer, and the parts of every MienError.

    ``code`` is one of those that docs/serving.md lists.
    """

    def __init__(
        self, status: int, code: str, name: object, problem: str, hint: str, headers: dict[str, str] | None = None,
        **parameters: Any,
    ) -> None:  # fmt: skip
        super().__init__(status, detail=f"{name}: {problem}; {hint}", headers=headers)
        self.error = MienError(name, problem, hint, code=code, **parameters)

    def body(self) -> dict[str, Any]:
        return make_error_body(self.error)


def make_error_body(error: MienError) -> dict[str, Any]:
    return {"error": error.to_dict()}


#: Every route's errors, as the OpenAPI document says them.
CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}
RESPONSES: dict[int | str, dict[str, Any]] = {"4XX": {"description": "Not done, and why.", "content": CONTENT}}


def describe_error(status: int, why: str) -> dict[int | str, dict[str, Any]]:
    """Return ``responses`` of a route that may also answer with another error."""
    return {status: {"description": why, "content": CONTENT}}


def make_too_large_error(what: str, limit: int) -> RequestError:
    problem = f"is larger than the limit of {limit:,} bytes"
    return RequestError(413, "too_large", what, problem, "send a smaller one", limit=limit)


#: The status of one request too many.
BUSY_STATUS = 429


def make_busy_error(what: str, limit: int) -> RequestError:
    hint = "try again in a moment"
    problem = f"has its {limit} places taken"
    return RequestError(BUSY_STATUS, "busy", what, problem, hint, {"retry-after": "1"}, limit=limit)


def make_not_found_error(what: object) -> RequestError:
    return RequestError(404, "not_found", what, "does not exist", "check the address; it may have been removed")


def answer_unexpected_error(path: str, error: Exception) -> JSONResponse:
    """Return the answer to a request that failed because of a bug."""
    kind = type(error).__name__
    known = MienError(path, f"failed with an unforeseen {kind}", "please report it", code="unexpected", kind=kind)
    return JSONResponse(make_error_body(known), 500)


def drop_parameters(hint: str) -> str:
    """Return a hint of the library without its parts that name parameters of Python, which a request does not have."""
    parts = [part for part in hint.split(", or ") if "`" not in part]
    return ", or ".join(parts) or "send another file"


def add_error_handlers(app: FastAPI) -> None:
    """Make ``app`` answer every expected kind of error in the same form."""

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> JSONResponse:
        return JSONResponse(error.body(), error.status_code, error.headers)

    @app.exception_handler(MienError)
    async def known(_: Request, error: MienError) -> JSONResponse:
        status = next(status for kind, status in STATUS_OF if isinstance(error, kind))
        return JSONResponse(make_error_body(error), status)

    @app.exception_handler(MemoryError)
    async def full(_: Request, error: MemoryError) -> JSONResponse:
        hint = "try again in a moment, with a smaller file"
        return JSONResponse(make_error_body(MienError("memory", "is used up", hint, code="memory_full")), 503)

    @app.exception_handler(sqlite3.OperationalError)
    async def unwritable(_: Request, error: sqlite3.OperationalError) -> JSONResponse:
        hint = "make room on the service's disk"
        return JSONResponse(
            make_error_body(MienError("state", f"cannot be kept ({error})", hint, code="disk_full")), 503
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"])
        problem, hint = message[:1].lower() + message[1:], "see /docs for what is taken"
        return JSONResponse(make_error_body(MienError(name, problem, hint, code="invalid_parameter")), 422)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        known = MienError(request.url.path, str(error.detail).lower(), "see /docs for what there is", code=code)
        return JSONResponse(make_error_body(known), error.status_code, error.headers)
