"""The file of a form (multipart/form-data), parsed while it arrives; other fields are not stored."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from mien.service.display_names import clean_display_name
from mien.service.errors import RequestError, make_too_large_error

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: It tells every broken form to whoever reads the log; whoever sent one is told by the answer.
logging.getLogger("python_multipart").setLevel(logging.ERROR)

#: The field of a form that holds the file.
FIELD = "file"

#: So many of a file's first bytes tell what it is.
HEAD = 512

#: Parts of a form; more are no form that this service asked for.
MAX_PARTS = 16

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
    """An uploaded file: the client's name for it, only for display, and its size in bytes."""

    name: str = ""
    size: int = 0


async def receive_file(
    request: Request, target: BinaryIO, limit: int, check: Callable[[bytes, str], None] | None = None
) -> Upload:
    """Write the file of a form to ``target``.

    check: given the first bytes of the file (HEAD, or all that there are) and its name, as soon as they are there; may
    raise RequestError, too.

    Raises RequestError: 415 for another content type, 422 for a form that breaks off or holds no such file, 413 for one that
    is longer than ``limit`` bytes.
    """
    field = FIELD
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        problem = f"is {kind.decode('latin-1')[:60]!r}" if kind else "is not given"
        hint = f"send a form (multipart/form-data) with the field '{field}'"
        raise RequestError(415, "not_a_form", "content-type", problem, hint, field=field)
    form = _FormReceiver(target, limit, field, check)
    try:
        parser = MultipartParser(options.get(b"boundary", b""), form.callbacks())
        if not options.get(b"boundary"):
            raise MultipartParseError("no boundary")
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
    except ClientDisconnect as error:
        raise _make_broken_form_error("breaks off") from error
    except ValueError as error:  # every error of the parser is one
        raise _make_broken_form_error(f"is broken ({error})") from error
    if not form.ended:
        raise _make_broken_form_error("breaks off")
    if not form.found:
        problem = "is not in the form, or holds no file"
        raise RequestError(422, "no_file", field, problem, f"send one file in the field '{field}'", field=field)
    if not form.upload.size:
        raise RequestError(
            422, "empty_file", form.upload.name or field, "is empty (0 bytes)", "copy or export it again"
        )
    form.check_head()
    return form.upload


def _make_broken_form_error(problem: str) -> RequestError:
    return RequestError(422, "broken_form", "the form", problem, "send it again")


class _FormReceiver:
    """Callbacks of the parser: keep the first part with the expected name, and count everything."""

    def __init__(self, target: BinaryIO, limit: int, field: str, check: Callable[[bytes, str], None] | None) -> None:
        self._check, self._start = check, b""
        self.upload, self.found, self.ended = Upload(), False, False
        self._target, self._limit, self._field = target, limit, field
        self._parts = 0
        self._wanted = False
        self._head = self._value = b""
        self._headers: dict[bytes, bytes] = {}

    def callbacks(self) -> MultipartCallbacks:
        names = (
            "part_begin", "part_data", "header_begin", "header_field", "header_value", "header_end", "headers_finished",
            "end",
        )  # fmt: skip
        return cast("MultipartCallbacks", {f"on_{name}": getattr(self, f"_{name}") for name in names})

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            problem, hint = f"has more than {MAX_PARTS} parts", f"send the field '{self._field}' alone"
            raise RequestError(422, "broken_form", "the form", problem, hint)
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
        self.upload.name = clean_display_name(options.get(b"filename", b"").decode("utf-8", "replace"))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self.upload.size += end - start
            if self.upload.size > self._limit:
                raise make_too_large_error(self.upload.name, self._limit)
            if self._check is not None:
                self._start += data[start : min(end, start + HEAD)]
                if len(self._start) >= HEAD:
                    self.check_head()
            self._target.write(data[start:end])

    def check_head(self) -> None:
        """Check the file's first bytes, once."""
        check, self._check = self._check, None
        if check is not None:
            check(self._start, self.upload.name)

    def _end(self) -> None:
        self.ended = True
