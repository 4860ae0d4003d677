"""The settings of a service, and all of its limits."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from pathlib import Path

import platformdirs

from mien.analysis.output.annotate import display_size
from mien.analysis.output.style import Style

DAY_S = 86_400.0
MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Limits of all requests in bytes, pixels, seconds and counts.

    picture_bytes, picture_pixels   of a picture that is sent; frames of the camera have the same pixels, fewer bytes
    video_bytes, video_seconds      of a video that is sent; video_pixels of each of its frames
    other_bytes                     of the body of any other request, and of what stands around a file in a form
    jobs, waiting                   kept in all; not finished
    pictures, uploads, streams, cameras, others   requests of a kind that are answered at the same time
    idle_s, least_rate              a sender may be silent for so long; it sends so many bytes a second on average
    header_s                        a request line and its headers have arrived after so long
    decode_s, decode_bytes          time and memory of the process that decodes a picture
    worker_bytes                    memory of the process that analyzes a video
    stall_s, job_s                  a worker is ended after so long without progress; after so long in all
    free_bytes                      no video is taken where the disk would have less left
    decoded_bytes                   decoded pictures that are held at the same time
    camera_bytes, camera_rows       of one frame; records of one recording
    """

    picture_bytes: int = 32 * MIB
    picture_pixels: int = 64_000_000
    video_bytes: int = 4096 * MIB
    video_seconds: float = 4 * 3600.0
    video_pixels: int = 8192 * 4352
    other_bytes: int = 64 * 1024
    jobs: int = 200
    waiting: int = 20
    pictures: int = 32
    uploads: int = 4
    streams: int = 64
    cameras: int = 4
    others: int = 64
    idle_s: float = 10.0
    least_rate: int = 4096
    header_s: float = 10.0
    decode_s: float = 15.0
    decode_bytes: int = 2048 * MIB
    worker_bytes: int = 8192 * MIB
    stall_s: float = 180.0
    job_s: float = DAY_S
    free_bytes: int = 512 * MIB
    decoded_bytes: int = 512 * MIB
    camera_bytes: int = 4 * MIB
    camera_rows: int = 100_000


@dataclass(frozen=True)
class Config:
    """The settings of a service.

    token         asked for in every call, "" for none
    allow_insecure        whether an address that others reach is used without a token, on purpose
    root_path     what all addresses begin with behind a proxy, as "/mien"; "" for none
    proxies       addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed
    state         the folder of jobs and uploads
    reports       a folder that is searched for report.html, or None
    models        names or .onnx files; the first is the default
    detector_model  a YuNet file of one's own, or None
    session_s     a sign-in on the page holds so long
    retention_s   finished jobs are removed after so long; 0 keeps them
    workers       videos that are analyzed at the same time
    decoders      processes that decode pictures
    threads       of each network, in this process; 0 takes all cores
    """

    state: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    allow_insecure: bool = False
    root_path: str = ""
    proxies: tuple[str, ...] = ()
    reports: Path | None = None
    models: tuple[str, ...] = ("base",)
    detector: str = "auto"
    detector_model: Path | None = None
    session_s: float = 7 * DAY_S
    retention_s: float = 7 * DAY_S
    workers: int = 1
    decoders: int = 2
    threads: int = 1
    limits: Limits = field(default_factory=Limits)

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address to listen at."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def default_state_folder() -> Path:
    """Return the default folder of jobs: the system's folder for the state of programs."""
    return platformdirs.user_state_path("mien", appauthor=False) / "serve"


def limit_display_width(style: Style, size_wh: tuple[int, int], most_pixels: int) -> Style:
    """Return the style, without its display width if a picture of this size would get too many pixels."""
    wide, high = display_size(size_wh, style)
    return style if wide * high <= most_pixels else replace(style, display_width=0)
