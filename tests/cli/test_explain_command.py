from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.cli.main import main
from mien.core.labels import FER2013
from mien.data.readers import save_faces
from mien.explanation.attribution import METHODS
from mien.explanation.regions import REGIONS
from tests.cli.conftest import complaint, outputs
from tests.conftest import ASTRONAUT, patterns, voted

PICTURES = ["curves.png", "explain.html", "explain.json", "explain.png", "masked.png", "regions.png"]


@pytest.fixture(scope="module")
def faces_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "faces.csv"
    save_faces(patterns(70, seed=9), path)
    return path


def read(name: str) -> dict:
    return json.loads(Path(name).read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_first_faces_of_every_class_by_every_method(
    model_file: Path, faces_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("captum")
    arguments = [str(model_file), "--data", str(faces_file), "--per-class", "2", "--method", "all", "--out", "seen"]
    assert main(["explain", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert outputs("seen") == PICTURES
    found = read("seen/explain.json")
    assert list(found["methods"]) == list(METHODS)
    assert [face["truth"] for face in found["faces"]] == [name for name in FER2013 for _ in range(2)]
    assert [face["name"].split("#")[-1] for face in found["faces"][:4]] == ["0", "7", "1", "8"]
    for face in found["faces"]:
        assert face["target"] == face["predicted"]
    for name, numbers in found["methods"].items():
        assert 0 < numbers["deletion"] < 1
        assert sum(numbers["shares"]["all"][region] for region in REGIONS) == pytest.approx(1, abs=1e-3)
        assert numbers["against"]["random pixels"]["deletion"]["difference"] == pytest.approx(
            numbers["deletion"] - found["controls"]["random pixels"]["deletion"], abs=2e-4
        )
        assert numbers["random network"]["faces"] == 14
        assert re.search(rf"^{name} +{numbers['deletion']:.3f} +{numbers['insertion']:.3f} ", out, re.MULTILINE)
    assert "wrote seen/explain.html, seen/explain.png" in out
    assert out.splitlines()[2].split("  ")[0] == "method"
    with Image.open("seen/explain.png") as picture:
        assert picture.width > 9 * 144
        assert picture.height > 14 * 144


def test_a_model_of_the_raters_labels_is_shown_faces_by_these() -> None:
    """The file says angry, disgust, fear and so on; the annotators saw contempt in the first and neutral in the second."""
    save_faces(voted(patterns(7), {"contempt": 8, "neutral": 2}, {"neutral": 9, "happy": 1}), "voted.parquet")
    given = ["--data", "voted.parquet", "--per-class", "1", "--method", "gradient", "--no-sanity", "--quiet"]
    assert main(["explain", "ferplus", *given, "--out", "seen"]) == 0
    assert [face["truth"] for face in read("seen/explain.json")["faces"]] == ["neutral", "contempt"]


@pytest.mark.slow
def test_the_page_holds_everything_and_asks_for_nothing(model_file: Path, faces_file: Path) -> None:
    arguments = ["--data", str(faces_file), "--per-class", "1", "--method", "gradient,grad-cam", "-q"]
    assert main(["explain", str(model_file), *arguments, "--out", "seen"]) == 0
    page = Path("seen/explain.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 4
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    for heading in ("Maps", "What is left", "Do the maps mean anything?", "Where it looks"):
        assert f">{heading}</h2>" in page


@pytest.mark.slow
def test_the_face_of_a_scene(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--method", "gradient", "--detector", "haar", "--no-sanity", "--target", "Sadness", "--json"]
    assert main(["explain", str(model_file), str(ASTRONAUT), *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == read("mien-out/explain.json")
    (face,) = found["faces"]
    assert (face["name"], face["target"], face["truth"]) == ("astronaut.jpg", "sad", None)
    assert found["controls"] == {}
    assert outputs() == [name for name in PICTURES if name != "curves.png"]


@pytest.mark.slow
def test_crops_are_taken_as_they_are(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --detector none a saved crop gives the very numbers that the row of a data set gives."""
    faces = patterns(2, seed=4)
    save_faces(faces, "faces.csv")
    Path("crops").mkdir()
    for index in range(2):
        Image.fromarray(faces.images[index]).save(f"crops/{index}.png")
    given = ["--method", "integrated-gradients,occlusion", "--no-sanity", "--json"]
    assert main(["explain", str(model_file), "crops", "--detector", "none", *given]) == 0
    crops = json.loads(capsys.readouterr().out)
    assert main(["explain", str(model_file), "--data", "faces.csv", *given]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert crops["methods"] == rows["methods"]
    assert [face["confidence"] for face in crops["faces"]] == [face["confidence"] for face in rows["faces"]]


def test_a_run_gives_what_its_model_file_gives(run_folder: Path, model_file: Path, faces_file: Path) -> None:
    given = ["--data", str(faces_file), "--per-class", "1", "--method", "gradient,grad-cam", "--no-sanity", "-q"]
    for model, out in ((run_folder, "run"), (model_file, "file")):
        assert main(["explain", str(model), *given, "--out", out]) == 0
    np.testing.assert_array_equal(Image.open("run/explain.png").size, Image.open("file/explain.png").size)
    ours, theirs = read("run/explain.json")["methods"], read("file/explain.json")["methods"]
    for method in ours:
        for region in REGIONS:
            assert ours[method]["shares"]["all"][region] == pytest.approx(
                theirs[method]["shares"]["all"][region], abs=2e-3
            )


def test_some_of_several_pictures_fail(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((300, 300, 3), 90, np.uint8)).save("wall.png")
    given = ["--method", "gradient", "--no-sanity", "--detector", "haar"]
    assert main(["explain", str(model_file), str(ASTRONAUT), "wall.png", "absent.png", *given]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "mien: wall.png: shows no face that the detector finds; if it is itself a face, use --detector none",
        "mien: absent.png: does not exist; check the path",
        "mien: 2 of the inputs failed; the rest is done",
    ]
    assert main(["explain", str(model_file), "wall.png", *given, "--out", "none"]) == 2
    assert "shows no face" in complaint(capsys)
    assert not Path("none").exists()


def quantized_copy(model_file: Path) -> Path:
    import onnx

    proto = onnx.load(str(model_file))
    for entry in proto.metadata_props:
        if entry.key == "mien":
            entry.value = json.dumps(json.loads(entry.value) | {"quantized": True})
    onnx.save(proto, "int8.onnx")
    return Path("int8.onnx")


@pytest.mark.parametrize("verb", ["explain", "filters"])
def test_a_quantized_file_says_that_it_cannot(verb: str, model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, str(quantized_copy(model_file)), *([str(ASTRONAUT)] if verb == "explain" else [])]) == 2
    assert "is quantized, so its network cannot be rebuilt; use the float file of the same model" in complaint(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain"], "missing argument 'MODEL'"),
        (["explain", "MODEL"], "needs pictures or --data, and one of them alone; as in"),
        (["explain", "MODEL", "faces.csv", "--data", "faces.csv"], "needs pictures or --data, and one of them alone"),
        (["explain", "MODEL", "x.png", "--method", "gradcam"], "--method gradcam: 'gradcam' is unknown; choose from"),
        (["explain", "MODEL", "x.png", "--method", ","], "--method ,: names no method; choose from gradient,"),
        (["explain", "MODEL", "x.png", "--target", "awe"], "--target awe: is no class of this model; choose one of"),
        (["explain", "MODEL", "x.png", "--layer", "stem", "--method", "lime"], "--layer: is Grad-CAM's; add"),
        (["explain", "MODEL", "crop.png", "--detector", "none", "--method", "grad-cam", "--layer", "stm"],
         "layer 'stm': is not in this network; choose one of stem.1,"),
        (["explain", "MODEL", "crop.png", "--detector", "dlib"], "--detector dlib: is unknown"),
        (["explain", "MODEL", "x.png"], "x.png: does not exist; check the path"),
        (["explain", "MODEL", "film.mp4"], "film.mp4: is no picture; name pictures, or folders of them"),
        (["explain", "MODEL", "crop.png", "--keep", "0"], "invalid value for '--keep'"),
        (["explain", "MODEL", "--data", "unlabeled.csv"], "has no labels to choose faces of every class by"),
        (["explain", "MODEL", "--data", "faces.csv", "--split", "x"], "split 'x': does not occur"),
        (["explain", "nope", "crop.png"], "nope: does not exist"),
        (["filters"], "missing argument 'MODEL'"),
        (["filters", "MODEL", "--layer", "conv1"], "layer 'conv1': is not in this network; choose one of stem.1,"),
        (["filters", "MODEL", "--layer", "head"], "layer 'head': is no convolution but a Linear"),
        (["filters", "MODEL", "--layer", "stem.1", "--count", "0"], "--count 0: is neither a number from 1 nor all"),
        (["filters", "MODEL", "--layer", "stem.1", "--picture", "x.png"], "x.png: does not exist"),
        (["filters", "MODEL", "--layer", "stem.1", "--steps", "0"], "invalid value for '--steps'"),
        (["filters", "MODEL", "--layer", "stem.1", "--data", "x.csv", "--steps", "1"], "x.csv: does not exist"),
    ],
)  # fmt: skip
def test_wrong_input_gives_one_line_and_exit_code_2(
    arguments: list[str], message: str, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_faces(patterns(14), "faces.csv")
    Path("unlabeled.csv").write_text("pixels\n" + " ".join(["7"] * 2304) + "\n")
    Path("film.mp4").write_bytes(b"0")
    Image.fromarray(patterns(1).images[0]).save("crop.png")
    given = outputs(".")
    assert main([str(model_file) if argument == "MODEL" else argument for argument in arguments]) == 2
    assert message in complaint(capsys)
    assert [name for name in outputs(".") if name not in given] == []


@pytest.mark.parametrize(("package", "extra"), [("torch", "train"), ("jinja2", "report"), ("captum", "explain")])
def test_what_is_missing_is_said_with_its_install_line(
    package: str, extra: str, model_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else found(name, *rest)
    )
    assert main(["explain", str(model_file), str(ASTRONAUT), "--method", "lime"]) == 2
    assert f"pip install 'mien[{extra}]'" in complaint(capsys)


# ---- filters ---------------------------------------------------------------------------------------------------------


def test_the_layers_are_listed(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filters", str(model_file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "filters", "inputs", "kernel", "output"]
    assert lines[1].split() == ["stem.1", "8", "4", "3x3", "24x24"]
    assert main(["filters", str(model_file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["kernel"] == [3, 3]
    assert outputs(".") == []


def test_filters_of_a_layer(model_file: Path, faces_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--layer", "stages.1.0.conv1", "--count", "all", "--steps", "8", "--out", "f"]
    picture = ["--picture", str(ASTRONAUT), "--detector", "haar"]
    assert main(["filters", str(model_file), *given, *picture, "--data", str(faces_file)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0].split() == ["filter", "noise", "plain", "regularized", "strongest", "face"]
    assert outputs("f") == [
        "ascent-plain.png", "ascent-regularized.png", "block-1-stem.png", "block-2-stages.0.0.png",
        "block-3-stages.1.0.png", "faces.png", "filters.html", "filters.json", "output.png", "weights.png",
    ]  # fmt: skip
    found = read("f/filters.json")
    assert [row["filter"] for row in found["filters"]] == list(range(16))
    assert found["outputs of"] == "astronaut.jpg"
    for row in found["filters"]:
        assert row["plain"] > row["noise"]
        values = [face["activation"] for face in row["faces"]]
        assert len(values) == 4
        assert values == sorted(values, reverse=True)
    page = Path("f/filters.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count("data:image/png;base64,") == 9


def test_filters_for_noise_are_seeded(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["filters", str(model_file), "--layer", "stem.1", "--count", "3", "--steps", "2", "--json"]
    results = []
    for extra in ([], [], ["--seed", "1"]):
        assert main([*given, *extra]) == 0
        results.append((json.loads(capsys.readouterr().out), Path("mien-out/output.png").read_bytes()))
        shutil.rmtree("mien-out")
    assert results[0] == results[1]
    assert results[0][0]["outputs of"] == "white noise"
    assert results[0][1] != results[2][1]


@pytest.mark.slow
def test_an_ensemble_is_explained_and_its_filters_shown(
    model_file: Path, faces_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(model_file, "twin.onnx")
    assert main(["ensemble", str(model_file), "twin.onnx", "--data", str(faces_file), "--out", "two.onnx", "-q"]) == 0
    capsys.readouterr()
    given = ["--data", str(faces_file), "--per-class", "1", "--no-sanity", "--json", "--method"]
    assert main(["explain", "two.onnx", *given, "gradient,grad-cam,guided-backprop"]) == 0
    assert len(json.loads(capsys.readouterr().out)["faces"]) == 7
    assert main(["filters", "two.onnx", "--layer", "networks.1.stem.1", "--count", "2", "--steps", "2", "-q"]) == 0
    assert Path("mien-out/filters.html").is_file()


@pytest.mark.parametrize("verb", ["explain", "filters"])
def test_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: mien {verb}")
    assert err == ""
