"""The process that decodes pictures: bytes on stdin, pixels on stdout, with a limit on its memory.

A hostile file may make it run out of memory, hang or crash: it is then ended and replaced, and the service goes on.
Request:  ``<QQ`` bytes of the picture, most pixels; then the bytes.
Answer:   ``<BII`` 0, height, width; then RGB. Or ``<BII`` 1, length, 0; then JSON of an error. 2 in place of 1: the
process ends then, since its memory was used up.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from mien.core.errors import MienError

REQUEST = struct.Struct("<QQ")
ANSWER = struct.Struct("<BII")
DECODED, FAILED, EXHAUSTED = 0, 1, 2


def limit_memory(most_bytes: int) -> None:
    """Let this process have so much address space, write no core file, and where that is not possible, nothing."""
    try:
        import resource
    except ImportError:  # Windows has no such limit for a process by itself
        return
    for what, amount in ((resource.RLIMIT_AS, most_bytes), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(what)
        amount = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        try:
            resource.setrlimit(what, (amount, hard))
        except (ValueError, OSError):  # macOS does not take a limit on address space
            continue


def decode_pictures(requests: BinaryIO, answers: BinaryIO) -> None:
    """Decode until ``requests`` ends. After a picture that took more memory than there is, the process ends too."""
    from mien.core.errors import MediaError
    from mien.core.pictures import read_picture

    while head := requests.read(REQUEST.size):
        length, most_pixels = REQUEST.unpack(head)
        data = requests.read(length)
        try:
            picture = read_picture(data, max_pixels=most_pixels)
        except MediaError as error:
            _write_error(answers, FAILED, error)
            continue
        except MemoryError:
            del data
            problem = "needs more memory than a picture may"
            _write_error(answers, EXHAUSTED, MediaError("", problem, "send a smaller one", code="picture_needs_memory"))
            return
        answers.write(ANSWER.pack(DECODED, *picture.shape[:2]))
        answers.write(picture.data)
        answers.flush()


def _write_error(answers: BinaryIO, kind: int, error: MienError) -> None:
    text = json.dumps(error.to_dict()).encode()
    answers.write(ANSWER.pack(kind, len(text), 0) + text)
    answers.flush()


def main(memory: int) -> None:
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not stand between the pixels
    limit_memory(memory)
    decode_pictures(requests, answers)


if __name__ == "__main__":
    main(int(sys.argv[1]))
