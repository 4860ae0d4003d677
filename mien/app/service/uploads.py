"""The one file of a form (multipart/form-data), read as it arrives: nothing is gathered but what is wanted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from mien.app.service.names import display_name
from mien.app.service.refusals import Refused, too_large

#: It tells every broken form to whoever reads the log; whoever sent one is told by the answer.
logging.getLogger("python_multipart").setLevel(logging.ERROR)

#: Parts of a form; more are no form that this service asked for.
MOST_PARTS = 16

#: What a route that takes a form says in the OpenAPI document.
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}
                    },
                }
            }
        },
    }
}


@dataclass
class Upload:
    """What was sent: the name it had there, for display alone, and how many bytes."""

    name: str = ""
    size: int = 0


async def receive_file(request: Request, target: BinaryIO, limit: int, field: str = "file") -> Upload:
    """Write the file of a form to ``target``.

    Raises Refused: 415 for another content type, 422 for a form that breaks off or holds no such file, 413 for one that
    is longer than ``limit`` bytes.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        found = f"is {kind.decode('latin-1')[:60]!r}" if kind else "is not given"
        raise Refused(415, "content-type", found, f"send a form (multipart/form-data) with the field '{field}'")
    form = _Form(target, limit, field)
    try:
        parser = MultipartParser(options.get(b"boundary", b""), form.callbacks())
        if not options.get(b"boundary"):
            raise MultipartParseError("no boundary")
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
    except ClientDisconnect as error:
        raise _broken("breaks off") from error
    except ValueError as error:  # every error of the parser is one
        raise _broken(f"is broken ({error})") from error
    if not form.ended:
        raise _broken("breaks off")
    if not form.found:
        raise Refused(422, field, "is not in the form, or holds no file", f"send one file in the field '{field}'")
    if not form.upload.size:
        raise Refused(422, form.upload.name or field, "is empty (0 bytes)", "copy or export it again")
    return form.upload


def _broken(found: str) -> Refused:
    return Refused(422, "the form", found, "send it again")


class _Form:
    """What the parser calls: keeps the first part with the wanted name, and counts everything."""

    def __init__(self, target: BinaryIO, limit: int, field: str) -> None:
        self.upload, self.found, self.ended = Upload(), False, False
        self._target, self._limit, self._field = target, limit, field
        self._parts = 0
        self._wanted = False
        self._head = self._value = b""
        self._headers: dict[bytes, bytes] = {}

    def callbacks(self) -> dict[str, Callable[..., Any]]:
        names = (
            "part_begin", "part_data", "header_begin", "header_field", "header_value", "header_end", "headers_finished",
            "end",
        )  # fmt: skip
        return {f"on_{name}": getattr(self, f"_{name}") for name in names}

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Refused(422, "the form", f"has more than {MOST_PARTS} parts", f"send the field '{self._field}' alone")
        self._headers, self._wanted = {}, False

    def _header_begin(self) -> None:
        self._head = self._value = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._head += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._head.lower()] = self._value

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if self.found or options.get(b"name", b"").decode("utf-8", "replace") != self._field:
            return
        self._wanted = self.found = True
        self.upload.name = display_name(options.get(b"filename", b"").decode("utf-8", "replace"))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self.upload.size += end - start
            if self.upload.size > self._limit:
                raise too_large(self.upload.name, self._limit)
            self._target.write(data[start:end])

    def _end(self) -> None:
        self.ended = True
