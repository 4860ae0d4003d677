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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from mien.analysis.media.inputs import Input
from mien.core.errors import MediaError, MienError
from mien.core.locks import hold_lock
from mien.service.config import limit_display_width
from mien.service.recognition.decoder import limit_memory

#: FFmpeg opens a file as one of these and as nothing else: a playlist could name other files of this machine.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,asf,flv,ogg,mxf,gif,h264,hevc,m4v,mjpeg,ivf,nut,dv"
)

#: Seconds between two lines of progress.
PROGRESS_INTERVAL_S = 0.2


@dataclass(frozen=True)
class UploadedVideo(Input):
    """An uploaded file: stored under a name of the service, shown under its own."""

    display_name: str = ""

    @property
    def name(self) -> str:
        return self.display_name

    def output_name(self, output: Path) -> str:
        """As `videos.download_name` has it."""
        return Path(self.display_name).stem + output.name.removeprefix(self.stem.name)


@dataclass
class ProgressReporter:
    """Write lines of progress at a limited rate, with an estimate of the time left."""

    out: IO[str]
    limit_s: float
    name: str
    started: float = 0.0
    first: float = 0.0
    last_sent: float = 0.0

    def send_message(self, **values: Any) -> None:
        self.out.write(json.dumps(values) + "\n")
        self.out.flush()

    def report_progress(self, seconds: float, total: float | None, frames: int) -> None:
        """Report progress as AnalysisContext.report_progress does. Raises MediaError if the video exceeds its limit."""
        if max(seconds, total or 0.0) > self.limit_s:
            raise make_too_long_error(self.name, max(seconds, total or 0.0), self.limit_s)
        now = time.monotonic()
        share = min(1.0, max(0.0, seconds / total)) if total else None
        if not self.started:  # what was done before counts as done, but says nothing about speed
            self.started, self.first = now, share or 0.0
        if now - self.last_sent < PROGRESS_INTERVAL_S:
            return
        self.last_sent = now
        passed, gained = now - self.started, (share or 0.0) - self.first
        left = round(passed / gained * (1 - share), 1) if share is not None and gained > 0 and passed > 1 else None
        self.send_message(progress=share and round(share, 4), seconds_left=left, text=f"{frames:,} frames")


def make_too_long_error(name: str, seconds: float, limit_s: float) -> MediaError:
    problem = f"lasts {seconds:,.0f} s, longer than the limit of {limit_s:,.0f} s"
    return MediaError(name, problem, "send a shorter part", code="video_too_long", seconds=seconds, limit=limit_s)


def probe_video(path: Path, name: str, most_pixels: int, most_seconds: float) -> dict[str, Any]:
    """Return size, length and start of a video. Raises MediaError if it is no video, or larger or longer than allowed."""
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
        return check_video_limits(
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
    return check_video_limits(name, facts, most_pixels, most_seconds)


def check_video_limits(name: str, facts: dict[str, Any], most_pixels: int, most_seconds: float) -> dict[str, Any]:
    """Return the facts. Raises MediaError if a video is larger or longer than allowed."""
    width, height = facts["width"], facts["height"]
    if width * height > most_pixels:
        problem = f"has {width} x {height} pixels, more than the limit of {most_pixels:,}"
        size = {"width": width, "height": height, "limit": most_pixels}
        raise MediaError(name, problem, "scale it down", code="too_many_pixels", **size)
    if facts["seconds"] > most_seconds:
        raise make_too_long_error(name, facts["seconds"], most_seconds)
    return facts


def analyze_job(task: dict[str, Any], reporter: ProgressReporter) -> str:
    """Do what ``task`` says (see ``Runner._make_task``), leave the results in its ``out``, and say what was odd."""
    from mien.analysis.pipeline import analyze_input
    from mien.analysis.recognizer import Recognizer
    from mien.analysis.settings import AnalysisContext, AnalysisOptions
    from mien.core.files import write_json

    path, out = Path(task["path"]), Path(task["out"])
    facts = probe_video(path, task["name"], task["most_pixels"], task["most_seconds"])
    reporter.send_message(progress=0.0, text="loading the model")
    options = AnalysisOptions.from_dict(task["options"])
    recognizer, style = Recognizer.from_options(options), options.style
    for size_wh in ((facts["width"], facts["height"]), (facts["height"], facts["width"])):  # it may be shown turned
        style = limit_display_width(style, size_wh, task["most_pixels"])
    context = AnalysisContext(
        out, replace(options, style=style), quiet=True, report_progress=reporter.report_progress, inline_scripts=True
    )
    done = analyze_input(UploadedVideo(path, Path(task["stem"]), task["name"]), recognizer, context)
    facts |= {
        "warnings": done.warnings,
        "labels": list(recognizer.labels),
        "unsure_below": recognizer.thresholds.unsure_below,
        "not_a_face_above": recognizer.thresholds.not_a_face_above,
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
    task = json.loads(sys.stdin.readline())
    watch_parent(sys.stdin)
    limit_memory(task["memory"])
    reporter = ProgressReporter(out, task["most_seconds"], task["name"])
    try:
        # A worker whose server was killed may still be about to end.
        with hold_lock(Path(task["out"]) / "worker.lock", task["name"], "try again later", wait_s=30):
            text = analyze_job(task, reporter)
        reporter.send_message(done=True, text=text)
    except MienError as error:
        own = str(task["path"])
        name = task["name"] if own in error.name else error.name
        reporter.send_message(
            error=error.to_dict() | {"name": name, "problem": error.problem.replace(own, task["name"])}
        )
    except MemoryError:
        problem = f"needs more memory than the {task['memory'] / 2**30:.0f} GiB that an analysis may have"
        limit = {"code": "video_needs_memory", "limit": task["memory"]}
        reporter.send_message(error=MediaError(task["name"], problem, "scale the video down", **limit).to_dict())
    out.close()
    sys.stderr.flush()
    os._exit(0)  # at once, past threads that wait for a server that has its answer


if __name__ == "__main__":
    main()
