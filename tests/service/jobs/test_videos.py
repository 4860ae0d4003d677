from __future__ import annotations

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mien.analysis.media.inputs import Input
from mien.analysis.pipeline import analyze_input
from mien.analysis.recognizer import Recognizer
from mien.analysis.settings import AnalysisContext, AnalysisOptions
from mien.service.answers import Frames
from mien.service.jobs.overlay import load_overlay
from tests.conftest import ASTRONAUT
from tests.service.conftest import as_file, error_of, finished, sent, service


@pytest.fixture(scope="module")
def done(client: TestClient, clip: Path) -> dict:
    """A job that is done."""
    return finished(
        client, sent(client, clip, "My clip.mp4", color="#ff0000", label_color="happy:#0000ff", smoothing=0.5)["id"]
    )


def result(client: TestClient, job: dict, what: str, **options):
    return client.get(f"/v1/jobs/{job['id']}/results/{what}", **options)


def test_a_video_gives_what_analyze_gives(client: TestClient, done: dict, clip: Path, tmp_path: Path) -> None:
    assert (done["state"], done["error"], done["progress"], done["attempts"]) == ("done", None, 1.0, 1)
    analyze_input(
        Input(clip, Path("clip")),
        Recognizer("base", detector="haar"),
        AnalysisContext(tmp_path, AnalysisOptions(formats=("jsonl",), outputs=(), smoothing_s=0.5), quiet=True),
    )
    expected = [json.loads(line) for line in (tmp_path / "clip.records.jsonl").read_text().splitlines()]
    found = [json.loads(line) for line in result(client, done, "records.jsonl").text.splitlines()]
    assert len(found) == len(expected) > 10
    for one, other in zip(found, expected, strict=True):
        assert one | {"source": ""} == pytest.approx(other | {"source": ""})
    assert {record["source"] for record in found} == {"My clip.mp4"}
    rows = list(csv.DictReader(io.StringIO(result(client, done, "records.csv").text)))
    assert [row["frame"] for row in rows] == [str(record["frame"]) for record in found]


def test_a_timeline_that_is_downloaded_finds_the_video_that_is(client: TestClient, done: dict) -> None:
    page = result(client, done, "timeline.html", params={"download": True})
    video = result(client, done, "annotated.mp4", params={"download": True})
    assert 'filename="My clip.annotated.mp4"' in video.headers["content-disposition"]
    assert '"media":"My clip.annotated.mp4"' in page.text


@pytest.mark.slow
def test_a_job_whose_model_is_not_served_any_more_fails_and_says_so(
    tmp_path: Path, clip: Path, model_file: Path
) -> None:
    with service(tmp_path, workers=0, models=(str(model_file),)) as client:
        job = sent(client, clip, model=model_file.stem)
    with service(tmp_path) as client:
        job = finished(client, job["id"])
    assert job["state"] == "failed"
    assert (job["error"]["name"], job["error"]["problem"]) == (f"model '{model_file.stem}'", "is not served any more")


def test_the_results_are_whole_files(client: TestClient, done: dict, clip: Path) -> None:
    wanted = {"source", "annotated.mp4", "records.jsonl", "records.csv", "summary.json", "timeline.png", "vtt"}
    assert wanted <= set(done["results"])
    assert result(client, done, "source").content == clip.read_bytes()
    assert result(client, done, "vtt").text.startswith("WEBVTT")
    Image.open(io.BytesIO(result(client, done, "timeline.png").content)).verify()
    with av.open(io.BytesIO(result(client, done, "annotated.mp4").content)) as video:
        frames = list(video.decode(video=0))
        assert (len(frames), len(video.streams.audio)) == (25, 1)
    summary = json.loads(result(client, done, "summary.json").text)
    assert (summary["source"], summary["frames"]) == ("My clip.mp4", 25)
    for what in done["results"]:
        saved = result(client, done, what, params={"download": 1}).headers["content-disposition"]
        assert saved.startswith('attachment; filename="My clip.')


def test_parts_of_a_video_are_given_for_seeking(client: TestClient, done: dict) -> None:
    whole = result(client, done, "annotated.mp4").content
    part = result(client, done, "annotated.mp4", headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole)}"
    assert result(client, done, "annotated.mp4", headers={"range": "bytes=-50"}).content == whole[-50:]
    assert result(client, done, "annotated.mp4", headers={"range": f"bytes={len(whole)}-"}).status_code == 416
    asked = client.head(f"/v1/jobs/{done['id']}/results/annotated.mp4")  # as download managers do
    assert (asked.status_code, int(asked.headers["content-length"]), asked.content) == (200, len(whole), b"")


def test_boxes_have_the_colors_that_were_asked_for(client: TestClient, done: dict, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(result(client, done, "annotated.mp4").content)
    records = [json.loads(line) for line in result(client, done, "records.jsonl").text.splitlines()]
    row = next(row for row in records if row["frame"] == 0)
    assert row["s_label"] == "happy"
    with av.open(str(tmp_path / "a.mp4")) as video:
        picture = next(video.decode(video=0)).to_ndarray(format="rgb24")
    red, green, blue = picture[round((row["y1"] + row["y2"]) / 2), round(row["x1"])].astype(int)
    assert blue > 120 and red < 90 and green < 90


def test_the_overlay_says_what_the_records_say(client: TestClient, done: dict) -> None:
    overlay = client.get(f"/v1/jobs/{done['id']}/frames?fps=30").json()
    Frames.model_validate(overlay)
    assert set(overlay) == set(Frames.model_fields)
    records = [json.loads(line) for line in result(client, done, "records.jsonl").text.splitlines()]
    assert (overlay["width"], overlay["height"]) == (160, 120)
    assert overlay["seconds"] == pytest.approx(1.0, abs=0.1)
    assert 0 < overlay["unsure_below"] < overlay["not_a_face_above"] < 1
    assert overlay["people"][0]["track"] == 0
    shown = {time_s: faces for time_s, faces in zip(overlay["times"], overlay["faces"], strict=True) if faces}
    assert sorted(shown) == pytest.approx(sorted({round(record["time_s"], 3) for record in records}))
    for record in records:
        faces = shown[round(record["time_s"], 3)]
        assert any(
            face[:5]
            == pytest.approx([record["track"], record["x1"], record["y1"], record["x2"], record["y2"]], abs=0.06)
            and overlay["labels"][face[5]] == record["s_label"]
            and face[6] == pytest.approx([record[f"s_{name}"] for name in overlay["labels"]], abs=0.001)
            and face[7] == pytest.approx(record["not_a_face"], abs=0.001)
            for face in faces
        )
    plain = client.get(f"/v1/jobs/{done['id']}/frames?fps=30", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.json() == overlay
    assert len(client.get(f"/v1/jobs/{done['id']}/frames?fps=5").json()["times"]) < len(overlay["times"])


@pytest.mark.parametrize(
    "what", ["nothing", "facts.json", "video.mp4", "%2e%2e%2fjobs.sqlite3", "source.mp4", "frames"]
)
def test_results_that_there_are_none(client: TestClient, done: dict, what: str) -> None:
    assert result(client, done, what).status_code == 404


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_jobs_that_there_are_none(client: TestClient, method: str) -> None:
    ending = "/cancel" if method == "POST" else ""
    assert error_of(client.request(method, f"/v1/jobs/{'0' * 16}{ending}"), 404)
    assert client.request(method, f"/v1/jobs/nonsense{ending}").status_code in (404, 422)
    assert client.get(f"/v1/jobs/{'0' * 16}/events").status_code == 404


@pytest.mark.parametrize(
    ("data", "name", "status"),
    [
        (b"", "empty.mp4", 422),
        (ASTRONAUT.read_bytes(), "photo.mp4", 415),
        (as_file(__import__("numpy").zeros((4, 4, 3), "uint8")), "photo.mp4", 415),
    ],
)
def test_what_is_refused_at_once_leaves_nothing(client: TestClient, data: bytes, name: str, status: int) -> None:
    before = {job["id"] for job in client.get("/v1/jobs").json()}
    error = error_of(client.post("/v1/videos", files={"file": (name, data)}), status)
    assert error["name"] == name
    assert {job["id"] for job in client.get("/v1/jobs").json()} == before
    folders = {path.name for path in (client.app.state.service.store.folder / "jobs").iterdir()}
    assert folders == before


def playlist(path: Path) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{path}\n#EXT-X-ENDLIST\n".encode()


def test_a_video_that_is_cut_off_fails_with_a_reason(client: TestClient, clip: Path) -> None:
    job = finished(client, sent(client, clip.read_bytes()[:400], "truncated.mp4")["id"])
    assert (job["state"], job["attempts"], job["results"]) == ("failed", 1, ["source"])
    assert job["error"]["name"] == "truncated.mp4"
    assert "source" not in job["error"]["problem"]
    assert error_of(client.get(f"/v1/jobs/{job['id']}/frames"), 409)["problem"] == "is failed"
    client.delete(f"/v1/jobs/{job['id']}")


@pytest.mark.parametrize("kind", ["text", "playlist", "concat"])
def test_texts_are_refused_before_they_are_read(client: TestClient, clip: Path, kind: str) -> None:
    data = {
        "text": b"this is no video at all\n" * 50,
        "playlist": playlist(clip),  # it would name another file of this machine
        "concat": f"ffconcat version 1.0\nfile '{clip}'\n".encode(),
    }[kind]
    error = error_of(client.post("/v1/videos", files={"file": (f"{kind}.mp4", data)}), 415)
    assert (error["name"], error["code"]) == (f"{kind}.mp4", "not_a_video")


def test_settings_of_a_video_that_do_not_exist(client: TestClient, clip: Path) -> None:
    for query in ({"model": "../x"}, {"detector": "eyes"}, {"people": "none"}, {"color": "reddish"}, {"smoothing": -1}):
        assert client.post("/v1/videos", files={"file": ("a.mp4", clip.read_bytes())}, params=query).status_code == 422


def test_the_annotated_video_at_the_displays_size(client: TestClient, clip: Path) -> None:
    job = finished(client, sent(client, clip, display_width=80, bars=1)["id"])
    assert (job["options"]["style"]["display_width"], job["options"]["style"]["bars"]) == (80, True)
    with av.open(io.BytesIO(result(client, job, "annotated.mp4").content)) as video:
        assert (video.streams.video[0].width, video.streams.video[0].height) == (80, 60)
    overlay = client.get(f"/v1/jobs/{job['id']}/frames").json()
    assert (overlay["width"], overlay["height"]) == (160, 120)  # of what was sent: boxes count in its pixels


def test_records_alone(client: TestClient, clip: Path) -> None:
    job = finished(client, sent(client, clip, media=0)["id"])
    assert "annotated.mp4" not in job["results"]
    assert "records.csv" in job["results"]


def test_the_overlay_is_whole_for_all_who_ask_at_once(client: TestClient, done: dict) -> None:
    results = client.app.state.service.store.get_folder(done["id"]) / "results"
    with ThreadPoolExecutor(4) as pool:
        for fps in range(1, 16):
            made = list(pool.map(lambda _, fps=fps: load_overlay(results, fps), range(4)))
            assert made[0] and made == made[:1] * 4
