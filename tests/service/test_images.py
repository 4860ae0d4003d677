from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mien.analysis.output.annotate import draw_faces
from mien.analysis.output.style import Style, parse_label_colors
from mien.analysis.recognizer import Recognizer
from mien.core.pictures import read_picture
from tests.conftest import ASTRONAUT, yunet
from tests.service.conftest import as_file, error_of, form, service

PHOTO = ASTRONAUT.read_bytes()
BLANK = as_file(np.full((300, 400, 3), 128, np.uint8))


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer("base", detector="haar")


def picture_of(url: str) -> np.ndarray:
    head, data = url.split(",")
    assert head.startswith("data:image/")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_picture_reads_as_the_library_reads_it(client: TestClient, recognizer: Recognizer) -> None:
    answer = client.post("/v1/images", **form(PHOTO, "astronaut.jpg")).json()
    (face,), (expected,) = answer["faces"], recognizer.analyze(ASTRONAUT)
    assert (answer["source"], answer["model"], answer["detector"]) == ("astronaut.jpg", "base", "haar")
    assert (answer["width"], answer["height"]) == (512, 512)
    assert face["box"] == pytest.approx(expected.box_xyxy, abs=0.01)
    assert list(face["probabilities"]) == list(expected.labels)
    assert list(face["probabilities"].values()) == pytest.approx(expected.probabilities, abs=1e-5)
    assert (face["label"], face["score"]) == ("happy", pytest.approx(expected.score, abs=1e-4))
    (record,) = answer["records"]
    assert (record["source"], record["label"], record["p_happy"]) == (
        "astronaut.jpg",
        "happy",
        face["probabilities"]["happy"],
    )


def test_a_picture_without_a_face_has_none(client: TestClient) -> None:
    answer = client.post("/v1/images", **form(BLANK)).json()
    assert (answer["faces"], answer["records"], answer["width"], answer["height"]) == ([], [], 400, 300)


def test_what_the_network_was_given_is_shown_on_request(client: TestClient, recognizer: Recognizer) -> None:
    assert "crop" not in client.post("/v1/images", **form(PHOTO)).json()["faces"][0]
    (face,) = client.post("/v1/images?crops=1", **form(PHOTO)).json()["faces"]
    crop = picture_of(face["crop"])
    assert crop.shape == (48, 48)
    label = recognizer.classify(crop[None])[0]
    assert label == pytest.approx(list(face["probabilities"].values()), abs=1e-3)


def test_the_view_is_upright_and_its_size_is_that_of_the_boxes(client: TestClient) -> None:
    turned = Image.open(ASTRONAUT).crop((0, 0, 512, 400)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    buffer = io.BytesIO()
    turned.save(buffer, "tiff", exif=exif)
    answer = client.post("/v1/images?view=1", **form(buffer.getvalue(), "turned.tif")).json()
    assert (answer["width"], answer["height"]) == (512, 400)
    view = picture_of(answer["picture"])
    assert view.shape == (400, 512, 3)
    face = answer["faces"][0]
    x1, y1, x2, y2 = (round(value) for value in face["box"])
    original = np.asarray(Image.open(ASTRONAUT))[:400]
    difference = view[y1:y2, x1:x2].astype(int) - original[y1:y2, x1:x2]
    assert np.abs(difference).mean() < 6


def test_a_large_view_is_made_small(client: TestClient) -> None:
    answer = client.post("/v1/images?view=1&detector=none", **form(as_file(np.zeros((10, 3000, 3), np.uint8)))).json()
    assert (answer["width"], answer["height"]) == (3000, 10)
    assert picture_of(answer["picture"]).shape == (7, 2048, 3)


def test_detector_none_takes_the_whole_picture(client: TestClient) -> None:
    (face,) = client.post("/v1/images?detector=none", **form(BLANK)).json()["faces"]
    assert (face["box"], face["score"]) == ([0, 0, 400, 300], None)


def test_people_and_threshold_leave_out_faces(client: TestClient) -> None:
    photo = Image.open(ASTRONAUT)
    group = np.full((512, 800, 3), 200, np.uint8)
    group[:, :512], group[:256, 540:796] = np.asarray(photo), np.asarray(photo.resize((256, 256)))
    everyone = client.post("/v1/images", **form(as_file(group))).json()["faces"]
    assert len(everyone) >= 2
    by_size = sorted(everyone, key=lambda face: (face["box"][2] - face["box"][0]) * (face["box"][3] - face["box"][1]))
    for people, count in (("largest", 1), ("1", 1), ("2", 2), ("all", len(everyone))):
        found = client.post("/v1/images", params={"people": people}, **form(as_file(group))).json()["faces"]
        assert sorted(face["box"] for face in found) == sorted(face["box"] for face in by_size[-count:])
    limit = everyone[0]["score"] - 0.001
    sure = client.post("/v1/images", params={"detector_threshold": limit}, **form(as_file(group))).json()["faces"]
    assert [face["box"] for face in sure] == [face["box"] for face in everyone if face["score"] > limit]
    assert len(sure) < len(everyone)


def test_the_threshold_of_yunet_finds_more_and_less(tmp_path: Path) -> None:
    with service(tmp_path, detector="yunet", detector_model=yunet()) as client:
        scores = {}
        for threshold in (0.3, 0.7, 0.99):
            answer = client.post("/v1/images", params={"detector_threshold": threshold}, **form(PHOTO)).json()
            assert answer["detector"] == "yunet"
            scores[threshold] = [face["score"] for face in answer["faces"]]
            assert all(score >= threshold for score in scores[threshold])
        assert len(scores[0.3]) >= len(scores[0.7]) == 1
        assert scores[0.99] == []


def test_averaging_over_changed_copies(client: TestClient, recognizer: Recognizer) -> None:
    (face,) = client.post("/v1/images?tta=ten-crop", **form(PHOTO)).json()["faces"]
    (expected,) = Recognizer("base", detector="haar", tta="ten-crop").analyze(ASTRONAUT)
    assert list(face["probabilities"].values()) == pytest.approx(expected.probabilities, abs=1e-5)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_the_annotated_picture_is_the_one_that_analyze_draws(
    client: TestClient, recognizer: Recognizer, kind: str
) -> None:
    query = f"format={kind}&color=%23ff0080&line_width=5&text_size=30"
    answer = client.post(f"/v1/images/annotated?{query}", **form(PHOTO, "a b.é.jpg"))
    assert answer.headers["content-type"] == f"image/{kind}"
    assert "a%20b.%C3%A9.annotated" in answer.headers["content-disposition"]
    expected = read_picture(ASTRONAUT)
    draw_faces(expected, recognizer.analyze(ASTRONAUT), Style((255, 0, 128), 5, 30))
    found = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert np.abs(found.astype(int) - expected).mean() < (3 if kind == "jpeg" else 1e-9)


def test_the_annotated_picture_has_the_numbers_and_colors_that_the_page_shows(client: TestClient) -> None:
    """Several faces are numbered from 1, and each has the color of its expression as the service told it."""
    pair = np.hstack([read_picture(ASTRONAUT)] * 2)
    colors = client.get("/v1/settings").json()["colors"]
    own = [f"{label}:{color}" for label, color in colors.items()]
    query = {"format": "png", "label_color": own}
    answer = client.post("/v1/images/annotated", params=query, **form(as_file(pair)))
    found = np.asarray(Image.open(io.BytesIO(answer.content)))
    faces = client.post("/v1/images", **form(as_file(pair))).json()["faces"]
    assert len(faces) == 2
    for face in faces:
        x1, _, _, y2 = map(round, face["box"])
        assert f"#{bytes(found[y2 - 30, x1]).hex()}" == colors[face["label"]]
    expected, read = pair.copy(), Recognizer("base", detector="haar").analyze(pair)
    numbered = [replace(face, track=number) for number, face in enumerate(read)]
    draw_faces(expected, numbered, Style(label_colors=parse_label_colors(own)))
    assert (found == expected).all()
    for wrong in ("happy", "happy:reddish", ":#ffffff", ""):
        error = error_of(client.post("/v1/images/annotated", params={"label_color": wrong}, **form(PHOTO)), 422)
        assert error["code"] == "invalid_parameter"


def test_the_annotated_picture_with_hidden_faces(client: TestClient, recognizer: Recognizer) -> None:
    answer = client.post("/v1/images/annotated?format=png&blur=blur", **form(PHOTO))
    expected = read_picture(ASTRONAUT)
    draw_faces(expected, recognizer.analyze(ASTRONAUT), Style(blur="blur"))
    assert (np.asarray(Image.open(io.BytesIO(answer.content))) == expected).all()
    error = error_of(client.post("/v1/images/annotated?blur=mosaic", **form(PHOTO)), 422)
    assert error["code"] == "invalid_parameter"


def test_the_annotated_picture_at_the_displays_size_within_the_limit(client: TestClient) -> None:
    def size_wh(picture: bytes, width: int) -> tuple[int, int]:
        answer = client.post(f"/v1/images/annotated?display_width={width}&detector=none", **form(picture))
        return Image.open(io.BytesIO(answer.content)).size

    assert size_wh(PHOTO, 256) == (256, 256)
    assert size_wh(BLANK, 800) == (800, 600)
    thin = as_file(np.zeros((2000, 2, 3), np.uint8))
    assert size_wh(thin, 10) == (10, 10_000)
    assert size_wh(thin, 8000) == (16, 16_383)  # else 8,000 x 8,000,000


def test_saliency_is_the_crop_with_a_map_over_it(client: TestClient) -> None:
    pytest.importorskip("torch")
    answers = {
        method: client.post(f"/v1/images/saliency?method={method}", **form(PHOTO))
        for method in ("grad-cam", "gradient")
    }
    pictures = {name: np.asarray(Image.open(io.BytesIO(answer.content))) for name, answer in answers.items()}
    assert {picture.shape for picture in pictures.values()} == {(288, 288, 3)}
    assert (pictures["grad-cam"] != pictures["gradient"]).any()
    assert client.post("/v1/images/saliency?method=grad-cam", **form(PHOTO)).content == answers["grad-cam"].content
    assert "has 1 face, none" in error_of(client.post("/v1/images/saliency?face=1", **form(PHOTO)), 422)["problem"]
    assert "choose from" in error_of(client.post("/v1/images/saliency?method=lime", **form(PHOTO)), 422)["hint"]


def test_saliency_without_torch_names_the_install_line(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.service.recognition import saliency

    monkeypatch.setattr(saliency, "find_spec", lambda name: None)
    error = error_of(client.post("/v1/images/saliency", **form(PHOTO)), 501)
    assert error["hint"] == "pip install 'mien[train]'"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("model=nothing", "is unknown"),
        ("model=/etc/passwd", "is unknown"),
        ("model=../../x.onnx", "is unknown"),
        ("detector=eyes", "is unknown"),
        ("people=0", "is neither"),
        ("people=-1", "is neither"),
        ("people=²", "is neither"),
        ("tta=twice", "is unknown"),
        ("detector_threshold=2", "less than or equal to 1"),
        ("detector_threshold=nan", "input should be"),
        ("crops=perhaps", "boolean"),
    ],
)
def test_settings_that_do_not_exist(client: TestClient, query: str, found: str) -> None:
    assert found in error_of(client.post(f"/v1/images?{query}", **form(PHOTO)), 422)["problem"]


@pytest.mark.parametrize("color", ["reddish", "1,2", "1,2,300", "#12", "1,2,³", "", "#gggggg"])
def test_colors_that_are_none(client: TestClient, color: str) -> None:
    answer = client.post("/v1/images/annotated", params={"color": color}, **form(PHOTO))
    assert error_of(answer, 422)["problem"] == "is no color"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "is empty"),
        (b"hello, this is no picture", "is not a picture"),
        (PHOTO[:40_000], "is cut off"),
        (PHOTO[:100], "is cut off"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is not a picture"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 500, "is"),
        (b"GIF89a" + b"\xff" * 40, "is"),
    ],
)
def test_files_that_are_no_picture(client: TestClient, data: bytes, found: str) -> None:
    error = error_of(client.post("/v1/images", **form(data, "holiday.jpg")), 422)
    assert error["name"] == "holiday.jpg"
    assert found in error["problem"]
    assert "--" not in error["hint"]  # the options of another program are no help here


def test_limits_on_bytes_and_pixels(tmp_path: Path) -> None:
    with service(tmp_path, limits={"picture_bytes": 50_000, "picture_pixels": 119_999}) as client:
        assert "50,000 bytes" in error_of(client.post("/v1/images", **form(PHOTO)), 413)["problem"]
        over = as_file(np.zeros((300, 400, 3), np.uint8))
        error = error_of(client.post("/v1/images", **form(over)), 413)
        assert "400 x 300 pixels" in error["problem"]
        assert (error["code"], error["parameters"]["width"]) == ("too_many_pixels", 400)
        assert client.post("/v1/images", **form(as_file(np.zeros((300, 399, 3), np.uint8)))).status_code == 200
        huge = client.post("/v1/images", content=b"x" * 200_000, headers={"content-type": "image/jpeg"})
        assert "is larger than the limit" in error_of(huge, 413)["problem"]


def test_forms_that_are_none(client: TestClient) -> None:
    assert error_of(client.post("/v1/images", content=PHOTO, headers={"content-type": "image/jpeg"}), 415)
    assert error_of(client.post("/v1/images"), 415)
    assert error_of(client.post("/v1/images", json={"file": "x"}), 415)
    other = client.post("/v1/images", files={"picture": ("a.jpg", PHOTO)})
    assert error_of(other, 422)["problem"] == "is not in the form, or holds no file"
    head = {"content-type": "multipart/form-data"}
    assert "boundary" in error_of(client.post("/v1/images", content=b"x", headers=head), 422)["problem"]
    head = {"content-type": "multipart/form-data; boundary=abc"}
    begun = b'--abc\r\ncontent-disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n' + PHOTO
    assert error_of(client.post("/v1/images", content=begun, headers=head), 422)["problem"] == "breaks off"
    many = (
        b"".join(b'--abc\r\ncontent-disposition: form-data; name="a"\r\n\r\nx\r\n' for _ in range(50)) + b"--abc--\r\n"
    )
    assert "parts" in error_of(client.post("/v1/images", content=many, headers=head), 422)["problem"]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\photo.jpg", "photo.jpg"),
        ("/", "unnamed"),
        ("a\0b\n\x1b[31m.jpg", "ab[31m.jpg"),
        ("<script>alert(1)</script>.jpg", "script>.jpg"),
        ("ü" * 400, "ü" * 150),
    ],
)
def test_names_of_files_are_shown_and_never_used(sent: str, shown: str) -> None:
    from mien.service.display_names import clean_display_name

    assert clean_display_name(sent) == shown


def test_requests_at_the_same_time_read_as_alone(client: TestClient, recognizer: Recognizer) -> None:
    """Through one network in batches, with detectors in threads: nobody gets another's faces."""
    from concurrent.futures import ThreadPoolExecutor

    photo = Image.open(ASTRONAUT)
    files = [as_file(np.asarray(photo.resize((side, side)))) for side in range(200, 320, 20)]
    expected = [recognizer.analyze(Image.open(io.BytesIO(data))) for data in files]
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda data: client.post("/v1/images", **form(data)).json(), files))
    for answer, faces in zip(answers, expected, strict=True):
        assert len(answer["faces"]) == len(faces)
        for one, other in zip(answer["faces"], faces, strict=True):
            assert one["box"] == pytest.approx(other.box_xyxy, abs=0.01)
            assert list(one["probabilities"].values()) == pytest.approx(other.probabilities, abs=1e-4)


def test_a_picture_too_long_for_a_jpeg_names_the_other_format(client: TestClient) -> None:
    strip = form(as_file(np.zeros((20, 70_000), np.uint8)))
    error = error_of(client.post("/v1/images/annotated", **strip), 422)
    assert error["hint"] == "ask for format=png"
    assert client.post("/v1/images/annotated", params={"format": "png"}, **strip).status_code == 200
