"""The process that analyzes one video: a job on stdin, progress as lines of JSON on stdout.

It ends when the server does: its stdin then ends. What it writes lies in a folder of its own until the server moves it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from mien.analysis.media.inputs import Input
from mien.core.errors import MediaError, MienError
from mien.core.locks import hold_lock
from mien.service.config import fitting
from mien.service.recognition.decoder import limit_memory

#: FFmpeg opens a file as one of these and as nothing else: a playlist could name other files of this machine.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,asf,flv,ogg,mxf,gif,h264,hevc,m4v,mjpeg,ivf,nut,dv"
)

#: Seconds between two lines of progress.
TELL_S = 0.2


@dataclass(frozen=True)
class Sent(Input):
    """A file that was sent: it lies under a name of ours, and goes by its own."""

    shown: str = ""

    @property
    def name(self) -> str:
        return self.shown

    def output_name(self, output: Path) -> str:
        """As `videos.download_name` has it."""
        return Path(self.shown).stem + output.name.removeprefix(self.stem.name)


@dataclass
class Teller:
    """Writes lines of progress, not too many, and an estimate of the time left."""

    out: IO[str]
    limit_s: float
    name: str
    started: float = 0.0
    first: float = 0.0
    told: float = 0.0

    def tell(self, **values: Any) -> None:
        self.out.write(json.dumps(values) + "\n")
        self.out.flush()

    def watch(self, seconds: float, total: float | None, frames: int) -> None:
        """As Settings.watch. MediaError for a video that goes on longer than it may."""
        if max(seconds, total or 0.0) > self.limit_s:
            raise too_long(self.name, max(seconds, total or 0.0), self.limit_s)
        now = time.monotonic()
        share = min(1.0, max(0.0, seconds / total)) if total else None
        if not self.started:  # what was done before counts as done, but says nothing about speed
            self.started, self.first = now, share or 0.0
        if now - self.told < TELL_S:
            return
        self.told = now
        passed, gained = now - self.started, (share or 0.0) - self.first
        left = round(passed / gained * (1 - share), 1) if gained > 0 and passed > 1 else None
        self.tell(progress=share and round(share, 4), seconds_left=left, text=f"{frames:,} frames")


def too_long(name: str, seconds: float, limit_s: float) -> MediaError:
    found = f"lasts {seconds:,.0f} s, longer than the limit of {limit_s:,.0f} s"
    return MediaError(name, found, "send a shorter part", code="video_too_long", seconds=seconds, limit=limit_s)


def probe(path: Path, name: str, most_pixels: int, most_seconds: float) -> dict[str, Any]:
    """Size, length and start of a video. MediaError for what is none, or is larger or longer than it may be."""
    import av

    from mien.analysis.media.animation import AnimationSource
    from mien.analysis.media.container import (
        METADATA_ERRORS,
        container_start_s,
        is_false_video,
        select_video_stream,
    )
    from mien.core.pictures import is_animation, is_picture

    if is_animation(path):
        with AnimationSource(path) as source:
            width, height = source.size_wh
        return _within(
            name, {"start_s": 0.0, "seconds": 0.0, "width": width, "height": height}, most_pixels, most_seconds
        )
    if is_picture(path):
        raise MediaError(name, "is a picture, not a video", "send it to /v1/images", code="picture_not_video")
    try:
        with av.open(
            f"file:{path}", options={"format_whitelist": CONTAINERS}, metadata_errors=METADATA_ERRORS
        ) as container:
            if not container.streams.video or is_false_video(container, path):
                raise MediaError(name, "has no pictures in it", "send a video", code="no_video")
            stream = select_video_stream(container, name)
            start_s = container_start_s(container)
            seconds = (container.duration or 0) / 1_000_000
            width, height = stream.width, stream.height
    except (av.error.FFmpegError, OSError, ValueError) as error:
        hint = "copy or export it again"
        raise MediaError(name, "is not a video that can be read", hint, code="not_a_video") from error
    facts = {"start_s": start_s, "seconds": seconds, "width": width, "height": height}
    return _within(name, facts, most_pixels, most_seconds)


def _within(name: str, facts: dict[str, Any], most_pixels: int, most_seconds: float) -> dict[str, Any]:
    """The facts; a MediaError where a video is larger or longer than it may be."""
    width, height = facts["width"], facts["height"]
    if width * height > most_pixels:
        found = f"has {width} x {height} pixels, more than the limit of {most_pixels:,}"
        size = {"width": width, "height": height, "limit": most_pixels}
        raise MediaError(name, found, "scale it down", code="too_many_pixels", **size)
    if facts["seconds"] > most_seconds:
        raise too_long(name, facts["seconds"], most_seconds)
    return facts


def analyze(order: dict[str, Any], teller: Teller) -> str:
    """Do what ``order`` says (see ``Runner._order``), leave the results in its ``out``, and say what was odd."""
    from mien.analysis.output.annotate import Style
    from mien.analysis.pipeline import Settings, analyze_input
    from mien.analysis.recognizer import Recognizer
    from mien.analysis.settings import EXTRAS
    from mien.core.files import write_json

    path, out = Path(order["path"]), Path(order["out"])
    facts = probe(path, order["name"], order["most_pixels"], order["most_seconds"])
    teller.tell(progress=0.0, text="loading the model")
    recognizer = Recognizer(
        order["model"], detector=order["detector"], detector_model=order["detector_model"], people=order["people"]
    )
    formats = ("jsonl", "csv", "parquet") if find_spec("pyarrow") else ("jsonl", "csv")
    own = tuple((label, tuple(color)) for label, color in order["label_colors"])
    names = ("line_width", "text_size", "bars", "display_width")
    style = Style(tuple(order["color"]), *(order[name] for name in names), own)
    for size_wh in ((facts["width"], facts["height"]), (facts["height"], facts["width"])):  # it may be shown turned
        style = fitting(style, size_wh, order["most_pixels"])
    settings = Settings(
        out,
        formats,
        order["media"],
        style,
        quiet=True,
        smoothing_s=order["smoothing"],
        watch=teller.watch,
        extras=EXTRAS if order["media"] else ("captions",),
        inline=True,
    )
    done = analyze_input(Sent(path, Path(order["stem"]), order["name"]), recognizer, settings)
    facts |= {
        "warnings": done.warnings,
        "labels": list(recognizer.labels),
        "unsure_below": recognizer.doubt.unsure_below,
        "not_a_face_above": recognizer.doubt.non_face_above,
    }
    write_json(out / "facts.json", facts)
    return "; ".join(done.warnings)


def watch_parent(stdin: IO[str]) -> None:
    """End this process, and those that it started, as soon as the server is gone."""

    def wait() -> None:
        while stdin.read(1024):
            pass
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="watch parent").start()


def main() -> int:
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", newline="\n")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not stand between the lines
    order = json.loads(sys.stdin.readline())
    watch_parent(sys.stdin)
    limit_memory(order["memory"])
    teller = Teller(out, order["most_seconds"], order["name"])
    try:
        # A worker whose server was killed may still be about to end.
        with hold_lock(Path(order["out"]) / "worker.lock", order["name"], "try again later", wait_s=30):
            text = analyze(order, teller)
        teller.tell(done=True, text=text)
    except MienError as error:
        own = str(order["path"])
        name = order["name"] if own in error.name else error.name
        teller.tell(error=error.to_dict() | {"name": name, "problem": error.problem.replace(own, order["name"])})
    except MemoryError:
        found = f"needs more memory than the {order['memory'] / 2**30:.0f} GiB that an analysis may have"
        limit = {"code": "video_needs_memory", "limit": order["memory"]}
        teller.tell(error=MediaError(order["name"], found, "scale the video down", **limit).to_dict())
    out.close()
    sys.stderr.flush()
    os._exit(0)  # at once, past threads that wait for a server that has its answer


if __name__ == "__main__":
    main()
