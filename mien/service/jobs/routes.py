"""Routes for videos: each becomes a job, which can be followed, canceled, read and removed."""

from __future__ import annotations

import asyncio
import codecs
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, StreamingResponse

from mien.analysis.settings import OUTPUTS, AnalysisOptions, parse_people
from mien.service.answers import Frames, JobAdded, JobState
from mien.service.display_names import make_content_disposition
from mien.service.errors import RequestError, describe_error, make_not_found_error
from mien.service.jobs.jobs import DONE, JOB_ID, Job, make_source_name
from mien.service.jobs.overlay import load_overlay
from mien.service.parameters import DetectorName, ModelName, PeopleText, RequestedStyle, get_service
from mien.service.uploads import FORM, receive_file

if TYPE_CHECKING:
    from mien.service.server import Service

router = APIRouter(prefix="/v1", tags=["videos"])

JobId = Annotated[str, InPath(pattern=f"^{JOB_ID.pattern}$", description="a job's id")]

#: Types by ending; whatever else was sent goes out as bytes, never as a page.
TYPES = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm", ".mkv": "video/x-matroska",
    ".ogv": "video/ogg", ".jsonl": "application/x-ndjson", ".csv": "text/csv; charset=utf-8", ".json": "application/json",
    ".png": "image/png", ".vtt": "text/vtt; charset=utf-8", ".html": "text/html; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
}  # fmt: skip

#: Beginnings of pictures that never move: they are read at once, by another route.
STILL_SIGNATURES = (b"\xff\xd8\xff", b"BM")

#: A page that was made here may run its own scripts, and reach nothing.
SANDBOX = "sandbox allow-scripts allow-downloads; default-src 'unsafe-inline' data: blob:; frame-ancestors 'self'"


@router.post(
    "/videos",
    status_code=202,
    openapi_extra=FORM,
    response_model=JobAdded,
    responses=describe_error(503, "the disk is almost full"),
)
async def add_video(
    request: Request,
    style: RequestedStyle,
    model: ModelName = "",
    detector: DetectorName = "",
    people: PeopleText = "all",
    smoothing: Annotated[float, Query(ge=0, le=60, description="time constant along a track, in seconds")] = 0.25,
    media: Annotated[bool, Query(description="write the annotated video and the timeline too")] = True,
) -> dict[str, Any]:
    """Take a video; the answer is its job, which waits for its turn."""
    service = get_service(request)
    store, limits = service.store, service.config.limits
    options = service.recognizers.resolve_options(
        AnalysisOptions(
            model=model,
            detector=detector or service.config.detector,
            people=parse_people(people),
            smoothing_s=smoothing,
            formats=("jsonl", "csv", "parquet") if find_spec("pyarrow") else ("jsonl", "csv"),
            outputs=OUTPUTS if media else ("captions",),
            style=style,
        )
    )
    check_capacity(service)
    job_id, folder = store.make_job_folder()
    try:
        part = folder / "source.part"
        with part.open("wb") as file:
            upload = await receive_file(request, file, limits.video_bytes, check_video)
        part.rename(folder / make_source_name(upload.name))
        check_capacity(service)
        job = store.add_job(job_id, upload.name, make_source_name(upload.name), options)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        problem, hint = f"cannot take the video ({error.strerror})", "remove some jobs, or make room"
        raise RequestError(503, "disk_full", "disk", problem, hint) from error
    except BaseException:  # a sender that goes away too: nothing of an upload stays without its job
        shutil.rmtree(folder, ignore_errors=True)
        raise
    service.runner.wake_up()
    return {"job": store.to_json(job)}


@router.get(
    "/videos/capacity",
    status_code=204,
    response_class=Response,
    responses=describe_error(503, "the disk is almost full"),
)
async def get_capacity(request: Request) -> Response:
    """Answer 204 if another video would be accepted, else the error that sending one would get. Ask before you send a
    large one."""
    check_capacity(get_service(request))
    return Response(status_code=204)


def check_capacity(service: Service) -> None:
    """Raise RequestError (429, 503) where there are too many jobs, or too little disk."""
    counts, limits = service.store.count_states(), service.config.limits
    if sum(counts.values()) >= limits.jobs:
        raise RequestError(
            429, "too_many_jobs", "jobs", f"are {limits.jobs} already", "remove some that are done", limit=limits.jobs
        )
    if counts["queued"] + counts["running"] >= limits.waiting:
        raise RequestError(
            429,
            "queue_full",
            "jobs",
            f"{limits.waiting} wait already",
            "try again when some are done",
            limit=limits.waiting,
        )
    if shutil.disk_usage(service.store.folder).free < limits.free_bytes:
        raise RequestError(503, "disk_full", "disk", "is almost full", "remove some jobs, or make room")


def check_video(head: bytes, name: str) -> None:
    """Raise RequestError (415) for what begins as a picture or as text: it is told before all of it was sent."""
    if is_still(head):
        raise RequestError(415, "picture_not_video", name, "is a picture, not a video", "send it to /v1/images")
    if is_text(head):
        raise RequestError(415, "not_a_video", name, "is text, not a video", "send the video itself")


def is_still(head: bytes) -> bool:
    """Return whether the first bytes of a file show that it is a still picture. The worker checks the cases that they
    do not decide."""
    if head.startswith(b"\x89PNG"):
        return b"IDAT" in head and b"acTL" not in head
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return head[12:16] != b"VP8X" or not head[20:21] or not head[20] & 2  # the flag of an animation
    return head.startswith(STILL_SIGNATURES)


def is_text(head: bytes) -> bool:
    """Return whether the first bytes of a file are text, such as JSON or HTML. No video's are."""
    text = codecs.getincrementaldecoder("utf-8")
    try:
        return all(letter.isprintable() or letter.isspace() for letter in text().decode(head))
    except UnicodeDecodeError:
        return False


def find_job(request: Request, job_id: str) -> Job:
    job = get_service(request).store.get_job(job_id)
    if job is None:
        raise make_not_found_error(f"job {job_id}")
    return job


@router.get("/jobs", response_model=list[JobState])
async def list_jobs(request: Request) -> list[dict[str, Any]]:
    """List all jobs, the newest first."""
    store = get_service(request).store
    return [store.to_json(job) for job in store.list_jobs()]


@router.get("/jobs/{job_id}", response_model=JobState)
async def get_job(request: Request, job_id: JobId) -> dict[str, Any]:
    """Return one job."""
    return get_service(request).store.to_json(find_job(request, job_id))


@router.get(
    "/jobs/{job_id}/events", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}}
)
async def follow_job(request: Request, job_id: JobId) -> StreamingResponse:
    """Stream server-sent events: ``event: job`` with the job as data whenever it changes, until it is finished."""
    service = get_service(request)
    find_job(request, job_id)

    def get(which: str) -> dict[str, Any] | None:
        job = service.store.get_job(which)
        return None if job is None else service.store.to_json(job)

    headers = {"x-accel-buffering": "no"}
    return StreamingResponse(service.events.stream_job(job_id, get), media_type="text/event-stream", headers=headers)


@router.post("/jobs/{job_id}/cancel", response_model=JobState)
async def cancel_job(request: Request, job_id: JobId) -> dict[str, Any]:
    """End a job; what is finished stays as it is."""
    service = get_service(request)
    find_job(request, job_id)
    job = await service.runner.cancel_job(job_id)
    if job is None:
        raise make_not_found_error(f"job {job_id}")
    return service.store.to_json(job)


@router.delete("/jobs/{job_id}", status_code=204, response_class=Response)
async def remove_job(request: Request, job_id: JobId) -> Response:
    """Remove a job, its video and its results, ending it first if it runs."""
    find_job(request, job_id)
    await get_service(request).runner.remove_job(job_id)
    return Response(status_code=204)


@router.head("/jobs/{job_id}/results/{what}", include_in_schema=False)
@router.get("/jobs/{job_id}/results/{what}", response_class=FileResponse)
async def get_result(
    request: Request,
    job_id: JobId,
    what: Annotated[str, InPath(max_length=40, description="a name from the job's results")],
    download: Annotated[bool, Query(description="have a browser save it")] = False,
) -> FileResponse:
    """Return one file of a job; parts of it by Range."""
    job = find_job(request, job_id)
    path = get_service(request).store.find_results(job).get(what)
    if path is None:
        raise make_not_found_error(f"result {what!r} of this job")
    headers = {}
    if download:
        headers["content-disposition"] = make_content_disposition(make_download_name(job, what, path))
    if path.suffix == ".html":
        headers |= {"content-security-policy": SANDBOX, "x-frame-options": "SAMEORIGIN"}
    return FileResponse(path, media_type=TYPES.get(path.suffix, "application/octet-stream"), headers=headers)


def make_download_name(job: Job, what: str, path: Path) -> str:
    """Return the name to save a result under: ``clip.mov`` and ``annotated.mp4`` → ``clip.annotated.mp4``."""
    return job.name if what == "source" else f"{Path(job.name).stem}.{what}"


@router.get("/jobs/{job_id}/frames", response_model=Frames)
async def get_frames(
    request: Request,
    job_id: JobId,
    fps: Annotated[int, Query(ge=1, le=30, description="no more frames a second than this")] = 10,
) -> Response:
    """Return what a player draws over the video: times, boxes, tracks and smoothed probabilities."""
    service = get_service(request)
    job = find_job(request, job_id)
    if job.state != DONE:
        raise RequestError(
            409, "not_done", f"job {job_id}", f"is {job.state}", "wait until it is done", state=job.state
        )
    try:
        data = await asyncio.to_thread(load_overlay, service.store.get_folder(job_id) / "results", fps)
    except FileNotFoundError as error:  # removed meanwhile
        raise make_not_found_error(f"job {job_id}") from error
    headers = {"vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(data, media_type="application/json", headers=headers | {"content-encoding": "gzip"})
    import gzip

    return Response(await asyncio.to_thread(gzip.decompress, data), media_type="application/json", headers=headers)
