"""Every answer that is no result, as JSON: ``{"error": {"name", "found", "cure"}}`` with its status."""

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


class Refused(HTTPException):
    """A request that is not done, with its status and, as every error here, name, what was found and the cure."""

    def __init__(self, status: int, name: object, found: str, cure: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, detail=f"{name}: {found}; {cure}", headers=headers)
        self.name, self.found, self.cure = str(name), found, cure

    def body(self) -> dict[str, Any]:
        return error_body(self.name, self.found, self.cure)


def error_body(name: object, found: str, cure: str) -> dict[str, Any]:
    return {"error": {"name": str(name), "found": found, "cure": cure}}


#: Every route's errors, as the OpenAPI document says them.
ERROR = {"type": "object", "required": ["name", "found", "cure"],
         "properties": {"name": {"type": "string"}, "found": {"type": "string"}, "cure": {"type": "string"}}}  # fmt: skip
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "Not done: what it is about, what was found, and the cure.",
        "content": {
            "application/json": {"schema": {"type": "object", "required": ["error"], "properties": {"error": ERROR}}}
        },
    }
}


def also(status: int, why: str) -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route that may answer with another error, too."""
    return {status: {"description": why, "content": RESPONSES["4XX"]["content"]}}


def too_large(what: str, limit: int) -> Refused:
    return Refused(413, what, f"is larger than the limit of {limit:,} bytes", "send a smaller one")


#: The status of one request too many.
BUSY = 429


def busy(what: str, limit: int) -> Refused:
    cure = "try again in a moment"
    return Refused(BUSY, what, f"has its {limit} places taken", cure, {"retry-after": "1"})


def absent(what: object) -> Refused:
    return Refused(404, what, "does not exist", "check the address; it may have been removed")


def unforeseen(path: str, error: Exception) -> JSONResponse:
    """The answer to a request that failed through a fault of ours."""
    return JSONResponse(error_body(path, f"failed with an unforeseen {type(error).__name__}", "please report it"), 500)


def install(app: FastAPI) -> None:
    """Have ``app`` answer every kind of error that is foreseen in the one shape."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse(error.body(), error.status_code, error.headers)

    @app.exception_handler(MienError)
    async def known(_: Request, error: MienError) -> JSONResponse:
        status = next(status for kind, status in STATUS_OF if isinstance(error, kind))
        return JSONResponse(error_body(error.name, error.found, error.cure), status)

    @app.exception_handler(MemoryError)
    async def full(_: Request, error: MemoryError) -> JSONResponse:
        return JSONResponse(error_body("memory", "is used up", "try again in a moment, with a smaller file"), 503)

    @app.exception_handler(sqlite3.OperationalError)
    async def unwritable(_: Request, error: sqlite3.OperationalError) -> JSONResponse:
        return JSONResponse(error_body("state", f"cannot be kept ({error})", "make room on the service's disk"), 503)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"])
        return JSONResponse(error_body(name, message[:1].lower() + message[1:], "see /docs for what is taken"), 422)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        cure = "see /docs for what there is"
        return JSONResponse(
            error_body(request.url.path, str(error.detail).lower(), cure), error.status_code, error.headers
        )
