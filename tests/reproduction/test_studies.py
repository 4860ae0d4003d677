"""The reference systems: their splits, their recipes, and one epoch of each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.core.errors import DataError, UsageError
from mien.core.labels import CANONICAL
from mien.core.types import FaceSet, concatenate_faces
from mien.reproduction import runner as reproduce
from mien.reproduction import studies
from mien.reproduction.ablations import make_page as ladder_text
from mien.reproduction.derived import mix_expert
from mien.reproduction.estimates import TRAINING_FACES
from mien.reproduction.page import make_page, read_results, write_page
from mien.training.recipe import load_recipe
from mien.training.torch_classifier import read_log
from tests.conftest import patterns, shared, voted
from tests.training.interruption import silent


@pytest.fixture(scope="module")
def fer2013() -> FaceSet:
    """As many rows as FER2013's Training and PublicTest, its class counts, and pictures of 8 pixels that say their row."""
    parts = []
    for split, counts in (
        ("Training", (3995, 436, 4097, 7215, 4830, 3171, 4965)),
        ("PublicTest", (467, 56, 496, 895, 653, 415, 607)),
    ):
        labels = np.random.default_rng(0).permutation(np.repeat(np.arange(7), counts))
        faces = patterns(7, split=split)
        parts.append(
            replace(
                faces,
                images=np.zeros((len(labels), 8, 8), np.uint8),
                labels=labels,
                names=np.array([f"{split}/{row}" for row in range(len(labels))]),
                split=np.full(len(labels), split),
            )
        )
    return concatenate_faces(parts)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("r1", {"train": 25_909, "validation": 2_800, "test": 3_589}),
        ("r2", {"train": 11_880, "validation": 7_350, "test": 7_170}),
        ("r2-joined", {"train": 19_230, "test": 7_170}),
        ("r3", {"train": 4_000, "validation": 1_000, "test": 500}),
        ("r4", {"train": 25_800, "validation": 2_909, "test": 3_589}),
        ("r5", {"train": 25_838, "validation": 2_871, "test": 3_589}),
    ],
)
def test_splits_have_the_references_sizes_and_repeat(fer2013: FaceSet, name: str, sizes: dict[str, int]) -> None:
    divided = studies.SPLITS[name](fer2013)
    assert {part: int((divided.split == part).sum()) for part in divided.splits} == sizes
    assert len(np.unique(divided.names)) == len(divided)
    assert TRAINING_FACES[name] == sizes["train"]
    assert (studies.SPLITS[name](fer2013).names == divided.names).all()
    if name in ("r1", "r4", "r5"):  # PublicTest is what is scored, whole, and nothing of it trains
        assert set(divided.select_split("test").names) == set(fer2013.select_split("PublicTest").names)
    whole, part = fer2013.class_counts() / len(fer2013), divided.select_split("train").class_counts() / sizes["train"]
    if name != "r3":
        assert np.abs(whole - part).max() < 0.003


def test_r3s_stand_in_has_its_counts(fer2013: FaceSet) -> None:
    divided = studies.SPLITS["r3"](fer2013)
    trained_on = concatenate_faces([divided.select_split("train"), divided.select_split("validation")])
    counts = dict(zip(divided.classes, trained_on.class_counts().tolist(), strict=True))
    assert counts == {"angry": 500, "happy": 1500, "neutral": 1000, "sad": 1500, "surprise": 500}
    assert set(divided.select_split("test").class_counts()) == {100}


def test_the_last_rung_of_r2_never_trains_on_its_test_faces(fer2013: FaceSet) -> None:
    joined, ladder = studies.SPLITS["r2-joined"](fer2013), studies.SPLITS["r2"](fer2013)
    assert set(joined.select_split("test").names) == set(ladder.select_split("test").names)
    for run in studies.ALL["r2-resnet18"].runs:
        assert (
            reproduce.make_recipe(run, short=True).run.keep == "last"
        )  # it watches them, so it must not choose by them


def test_data_without_the_official_splits_is_refused() -> None:
    with pytest.raises(DataError, match="has no split PublicTest"):
        studies.select_official_splits(patterns(70))
    with pytest.raises(UsageError, match="choose one of all, r1-lenet"):
        studies.find_studies("r9")


def test_all_names_every_study_once_and_after_what_it_needs() -> None:
    names = [study.name for study in studies.find_studies("all")]
    assert sorted(names) == sorted(studies.ALL)
    for study in studies.ALL.values():
        assert all(names.index(needed) < names.index(study.name) for needed in study.needs)
    assert {study.name for study in studies.REFERENCES} == {
        *("r1-lenet", "r1-alexnet", "r1-resnet18", "r1-final", "r2-resnet18", "r3-vgg"),
        *("r4-cnn", "r4-dnn", "r5-vgg10", "r5-resnet17", "r5-resnet25"),
    }


def test_shortened_runs_shrink_their_milestones_and_their_warm_up_too() -> None:
    author, ours = studies.ALL["r5-vgg10"].runs
    assert [reproduce.make_recipe(replace(ours, short=epochs), short=True).schedule.warmup_epochs
            for epochs in (1, 4, 5, 100)] == [0.4, 1.6, 2, 2]  # fmt: skip
    full = reproduce.make_recipe(author, short=False).schedule
    short = reproduce.make_recipe(replace(author, short=30), short=True).schedule
    assert (full.epochs, full.milestones, short.epochs, short.milestones) == (300, [150, 225, 275], 30, [15, 22, 28])


def divided(recipe_split: str) -> FaceSet:
    """512 faces to train on and 70 each to watch and to score, in the classes that the split has."""
    faces = patterns(652)
    faces = replace(faces, split=np.array(["train"] * 512 + ["validation"] * 70 + ["test"] * 70))
    if recipe_split == "r3":
        classes = ("angry", "happy", "sad", "surprise", "neutral")
        return faces.take(np.isin(faces.labels, [0, 3, 4, 5, 6])).reindex_classes(classes)
    if recipe_split == "r2-joined":
        return replace(faces, split=np.where(faces.split == "test", "test", "train"))
    return faces


@pytest.fixture
def small_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "SPLITS", {name: lambda _, name=name: divided(name) for name in studies.SPLITS})
    monkeypatch.setattr(reproduce, "SPLITS", studies.SPLITS)


@pytest.mark.slow
@pytest.mark.parametrize("study", studies.REFERENCES, ids=lambda study: study.name)
def test_every_reference_trains_one_epoch_of_512_faces(
    study: studies.Study, tmp_path: Path, small_splits: None
) -> None:
    both = study.name in ("r1-lenet", "r1-alexnet", "r3-vgg")  # our recipe on all of them would take minutes
    for run in study.runs if both else study.runs[:1]:
        run = replace(run, short=1, tta=())
        result = reproduce.train_run(run, patterns(7), tmp_path / run.name, short=True, quiet=True, echo=silent)
        assert [row["epoch"] for row in result["history"]] == [1]
        assert result["recipe"]["network"]["name"] == study.name
        assert result["scores"]["none"]["count"] == (50 if run.split == "r3" else 70)
        assert np.isfinite(result["history"][0]["loss"])


@pytest.fixture
def tiny_study(monkeypatch: pytest.MonkeyPatch, small_splits: None) -> studies.Study:
    network = ("network.name=residual", "network.arguments={widths = [8], blocks = 1}", "schedule.warmup_epochs=0")
    study = studies.Study("batch-norm", "A tiny one", (
        studies.Run("with", "strong", "r1", 4, 2, network),
        studies.Run("without", "strong", "r1", 2, 2, (*network, "optimizer.lr=1e30", "optimizer.clip_norm=0")),
    ))  # fmt: skip
    monkeypatch.setitem(studies.ALL, "batch-norm", study)
    return study


@pytest.mark.slow
def test_a_study_writes_its_result_and_its_page_and_is_not_run_twice(
    tiny_study: studies.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = reproduce.reproduce_study(tiny_study, patterns(7), tmp_path, short=True, quiet=True, echo=silent)
    good, diverged = result["runs"]["with"], result["runs"]["without"]
    assert (len(good["history"]), good["full_epochs"], good["diverged"]) == (2, 4, "")
    assert good["split"] == {"train": 512, "validation": 70, "test": 70}
    assert "became NaN or infinite in epoch 1" in diverged["diverged"]
    assert diverged["scores"] == {}
    kept = json.loads((tmp_path / "batch-norm.json").read_text())
    assert kept["runs"]["with"]["scores"]["none"]["confusion"] == good["scores"]["none"]["confusion"]

    stamp = (tmp_path / "batch-norm" / "with" / "last.pt").stat().st_mtime_ns
    said: list[str] = []
    again = reproduce.reproduce_study(tiny_study, patterns(7), tmp_path, short=True, quiet=True, echo=said.append)
    assert (tmp_path / "batch-norm" / "with" / "last.pt").stat().st_mtime_ns == stamp
    assert (said, again["runs"]["with"]["history"]) == ([], json.loads(json.dumps(good["history"])))
    with pytest.raises(DataError, match=r"with: holds a run of 2 epochs instead of 4; remove it"):
        reproduce.reproduce_study(tiny_study, patterns(7), tmp_path, quiet=True, echo=silent)
    other = replace(
        tiny_study, runs=(replace(tiny_study.runs[0], settings=(*tiny_study.runs[0].settings, "run.seed=5")),)
    )
    with pytest.raises(DataError, match="holds a run with other settings"):
        reproduce.reproduce_study(other, patterns(7), tmp_path, short=True, quiet=True, echo=silent)

    known: list[str] = []
    options = {"known": tmp_path, "quiet": True, "echo": known.append}
    taken = reproduce.reproduce_study(tiny_study, patterns(7), tmp_path / "elsewhere", short=True, **options)
    assert len(known) == 2 and not (tmp_path / "elsewhere" / "batch-norm").exists()
    assert taken["runs"]["with"]["scores"] == kept["runs"]["with"]["scores"]
    longer = replace(tiny_study, runs=tiny_study.runs[:1])  # four epochs at full length, of which two are known
    reproduce.reproduce_study(longer, patterns(7), tmp_path / "elsewhere", **options)
    assert len(read_log(tmp_path / "elsewhere" / "batch-norm" / "with")[1]) == 4

    monkeypatch.setattr("mien.reproduction.page.MIN_EPOCHS", 2)
    write_page(read_results(tmp_path), tmp_path / "page.md", tmp_path / "pictures")
    page = (tmp_path / "page.md").read_text()
    assert f"| with | {100 * good['scores']['none']['accuracy']:.2f} |" in page
    assert "| without | the loss became NaN or infinite in epoch 1" in page
    assert (tmp_path / "pictures" / "batch-norm.png").stat().st_size > 5_000


def test_a_study_of_raters_is_scored_by_them_and_left_out_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = np.array(["train"] * 64 + ["test"] * 16)
    seen = [{CANONICAL[n % 8]: 9, "unknown": 1} for n in range(80)]
    seen[-3:] = [{"sad": 5, "happy": 5}, {"not_a_face": 10}, {}]
    monkeypatch.setattr(reproduce, "SPLITS", {"whole": lambda faces: replace(faces, split=splits)})
    small = ("network.arguments={widths = [8], blocks = 1}", "start.model=", "schedule.batch_size=32")
    run = replace(studies.ALL["ferplus"].runs[0], short=1)
    run = replace(run, settings=(*run.settings, *small))
    study = studies.Study("ferplus", "FER+", (run,))
    result = reproduce.reproduce_study(
        study, voted(patterns(80), *seen), tmp_path / "a", short=True, quiet=True, echo=silent
    )
    scores = result["runs"]["votes"]["scores"]["none"]
    assert scores["count"] == 13 and [row["class"] for row in scores["per_class"]] == list(CANONICAL)

    said: list[str] = []
    result = reproduce.reproduce_study(study, patterns(80), tmp_path / "b", short=True, quiet=True, echo=said.append)
    assert result["runs"] == {} and "the data holds no FER+ votes" in said[0]
    assert "## FER+" not in make_page(read_results(tmp_path / "b"), "pictures")


def run_result(accuracy: float, epochs: int = 2, full: int = 2, ten_crop: float | None = None) -> dict:
    """A result as `mien reproduce` writes it, with made-up figures."""
    per_class = [{"class": name, "recall": accuracy, "precision": accuracy} for name in ("disgust", "fear")]
    scores = {"none": {"accuracy": accuracy, "macro_f1": accuracy - 0.1, "per_class": per_class}}
    if ten_crop:
        scores["ten-crop"] = {"accuracy": ten_crop}
    row = {"loss": 1.0, "validation_loss": 1.0, "accuracy": 0.5, "validation_accuracy": 0.5, "images_per_s": 100.0}
    environment = {"device": "cpu", "processor": "P", "threads": 2, "precision": "bf16", "versions": {"torch": "2"}}
    recipe = load_recipe("strong", [f"schedule.epochs={epochs}"]).model_dump()
    return {
        "recipe": recipe,
        "full_epochs": full,
        "diverged": "",
        "header": {"environment": environment},
        "history": [row | {"epoch": n + 1, "seconds": 1800} for n in range(epochs)],
        "scores": scores,
    }


def test_the_table_counts_what_is_beaten_as_its_author_tested() -> None:
    results = {
        "r1-final": {"runs": {"ours": run_result(0.62)}},
        "r4-cnn": {"runs": {"ours": run_result(0.67, epochs=12, full=20)}},
        "r5-resnet25": {"runs": {"ours": run_result(0.70, ten_crop=0.71)}},
    }
    page = make_page(results, "pictures")
    assert "(2 of 11)" in page
    assert "**62.00**" in page
    assert "**70.00, ten-crop 71.00**" in page
    assert "| 67.00 | 12 of 20 |" in page
    # an epoch took half an hour, so twenty take ten
    assert "| `mien reproduce r4-cnn --data fer2013.csv` | ours 20 epochs, 10.0 h |" in page


def test_a_run_cut_to_fewer_than_ten_epochs_is_a_cost_and_not_a_result() -> None:
    short, whole = run_result(0.68, epochs=9, full=20), run_result(0.42, epochs=10, full=30)
    results = {
        "r4-cnn": {"runs": {"ours": short, "author": run_result(0.6, epochs=10, full=80)}},
        "augmentation": {"runs": {"without": short}},
        "r2-ladder": {"runs": {"plain": run_result(0.41, epochs=2, full=30), "flip": whole}},
    }
    page = make_page(results, "pictures")
    assert "(0 of 11)" in page and "68.00" not in page and "| too short | 9 of 20 |" in page
    assert "| with | 60.00 |" in page and "| without |" not in page
    assert "| flip | 42.00 |" in page and "41.00" not in page
    assert "| `mien reproduce r2-ladder --data fer2013.csv` | plain 30 epochs, 15.0 h, flip 30 epochs, 15.0 h |" in page
    assert "rungs" not in make_page({"r2-ladder": {"runs": {"plain": results["r2-ladder"]["runs"]["plain"]}}}, "p")


def test_one_run_of_a_study_leaves_the_others_and_joins_those_that_are_done(
    tiny_study: studies.Study, tmp_path: Path
) -> None:
    options = {"short": True, "quiet": True, "echo": silent}
    first = reproduce.reproduce_study(tiny_study, patterns(7), tmp_path, only="without", **options)
    assert list(first["runs"]) == ["without"] and not (tmp_path / "batch-norm" / "with").exists()
    second = reproduce.reproduce_study(tiny_study, patterns(7), tmp_path, only="with", **options)
    assert list(second["runs"]) == ["with", "without"]
    assert json.loads((tmp_path / "batch-norm.json").read_text())["runs"].keys() == second["runs"].keys()
    with pytest.raises(UsageError, match="run 'ours': is unknown in batch-norm; choose one of with, without"):
        reproduce.reproduce_study(tiny_study, patterns(7), tmp_path, only="ours", **options)


def test_the_table_says_who_was_taught() -> None:
    taught = run_result(0.62)
    taught["recipe"]["targets"]["teacher"] = "base"
    page = make_page({"r1-final": {"runs": {"ours": taught}}}, "pictures")
    assert "**62.00**, distilled from `base`" in page and "none of the faces that are scored" in page
    assert "istilled" not in make_page({"r1-final": {"runs": {"ours": run_result(0.62)}}}, "pictures")


def test_augmentation_is_shown_beside_r4s_own_run() -> None:
    results = {"augmentation": {"runs": {"without": run_result(0.5)}}, "r4-cnn": {"runs": {"author": run_result(0.4)}}}
    page = make_page(results, "pictures")
    assert "| without | 50.00 |" in page and "| with | 40.00 |" in page
    assert "| with | 40.00 |" not in make_page({"augmentation": results["augmentation"]}, "pictures")


def test_base_teaches_only_where_it_has_not_seen_the_faces_that_are_scored(fer2013: FaceSet) -> None:
    training, taught = set(fer2013.select_split("Training").names), set()
    for study in studies.ALL.values():
        for run in study.runs:
            if reproduce.make_recipe(run, short=True).targets.teacher:
                taught.add(run.split)
    assert taught
    for split in taught:
        assert training.isdisjoint(studies.SPLITS[split](fer2013).select_split("test").names)


def test_the_ladder_is_measured_against_the_mean_of_its_first_row() -> None:
    runs = {name: run_result(accuracy) for name, accuracy in (("start", 0.60), ("start-1", 0.61), ("start-2", 0.62))}
    runs["start"]["scores"]["flip"] = {"accuracy": 0.63}
    runs["votes-0.3"], runs["twice-as-long"] = run_result(0.625), run_result(0.60, epochs=24)
    page = ladder_text({"runs": runs})
    assert "| 61.00 (60.00 to 62.00, 3 seeds) |" in page
    assert "| `targets.votes=0.3` | 62.50 | +1.50 | 0.525 |" in page
    assert "| 24 epochs | 60.00 | -1.00 |" in page
    assert "| baseline, scored with `--tta flip` | 63.00 | +3.00 |" in page  # over the seeds that were scored so


def test_the_ladder_trains_on_training_and_is_scored_on_publictest(fer2013: FaceSet) -> None:
    divided = studies.SPLITS["whole"](fer2013)
    assert set(divided.select_split("train").names) == set(fer2013.select_split("Training").names)
    assert set(divided.select_split("test").names) == set(fer2013.select_split("PublicTest").names)
    for run in studies.LADDER.runs:
        recipe = reproduce.make_recipe(run, short=True)
        assert (recipe.data.validation, recipe.run.keep) == ("test", "last")


def test_the_difference_of_losses_is_paired_and_has_students_interval() -> None:
    pairs = [(0.60, 0.62), (0.61, 0.64), (0.62, 0.66)]  # differences of 2, 3 and 4 points: mean 3, deviation 1
    runs = {}
    for seed, (plain, adaptive) in enumerate(pairs):
        runs[f"cross-entropy-{seed}"] = run_result(plain, ten_crop=plain)
        runs[f"adaptive-{seed}"] = run_result(adaptive, ten_crop=0.6)
    page = make_page({"adaptive-loss": {"runs": runs}}, "pictures")
    half = 4.303 / np.sqrt(3)
    expected = f"| accuracy (%) | 61.00 (60.00 to 62.00) | 64.00 (62.00 to 66.00) | 3.00 ({3 - half:.2f} to {3 + half:.2f}) | yes |"
    assert expected in page
    assert "| no |" in page
    some = {name: runs[name] for name in ("cross-entropy-0", "adaptive-0", "adaptive-1")}
    assert "| adaptive-1 | 64.00, ten-crop 60.00 |" in make_page({"adaptive-loss": {"runs": some}}, "pictures")


def test_an_expert_moves_one_class_and_leaves_the_others_their_proportions() -> None:
    probabilities, expert = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]]), np.array([0.6, 0.5])
    joined = mix_expert(probabilities, expert, 0, 0.5)
    assert joined[0] == pytest.approx([0.4, 0.6 * 5 / 8, 0.6 * 3 / 8])
    assert mix_expert(probabilities, expert, 0, 0.0)[0] == pytest.approx(probabilities[0])
    assert joined[1] == pytest.approx([0.75, 0.125, 0.125])  # of nothing the others have equal shares


@pytest.mark.slow
def test_the_real_data_divides_as_the_references_say() -> None:
    from mien.data import load_faces

    faces = load_faces([shared("data/fer2013-training.parquet"), shared("data/fer2013-publictest.parquet")])
    assert len(studies.SPLITS["r5"](faces)) == 32_298
    assert len(studies.SPLITS["r3"](faces)) == 5_500
