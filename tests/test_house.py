"""The packages of mien, the one direction of their imports as docs/architecture.md draws it, sizes and names."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT

#: A package may import itself and the packages before it.
ORDER = (
    "core",
    "data",
    "evaluation",
    "analysis",
    "models",
    "training",
    "explanation",
    "reproduction",
    "service",
    "cli",
)
FILES = sorted((ROOT / "mien").rglob("*.py"))


def imported_packages(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("mien.")}


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent.name != "mien"], ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT / "mien").parts[0]
    assert imported_packages(path) <= set(ORDER[: ORDER.index(package) + 1])


def test_every_package_is_in_the_order() -> None:
    assert {path.name for path in (ROOT / "mien").iterdir() if (path / "__init__.py").exists()} == set(ORDER)


def test_the_architecture_document_names_every_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    absent = [path.name for path in FILES if path.name != "__init__.py" and path.name not in text]
    assert absent == []


def test_modules_and_functions_are_short() -> None:
    """Modules have at most 400 lines, functions at most 80."""
    too_long = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 400:
            too_long.append(path.name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= 80:
                too_long.append(f"{path.name}: {node.name}")
    assert FILES and too_long == []


def test_every_folder_of_modules_is_a_package() -> None:
    """The wheel leaves out other folders."""
    folders = {path.parent for path in FILES}
    assert folders and [folder.name for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_folders_are_small() -> None:
    """A folder has at most 15 modules. `cli` is excepted: it has one module for each verb."""
    counts = Counter(path.parent for path in FILES if path.name != "__init__.py")
    too_full = {folder.name: count for folder, count in counts.items() if count > 15 and folder.name != "cli"}
    assert counts and too_full == {}


#: An option of the command line.
OPTION = re.compile(r"(?<![\w-])--[a-z]")
#: Strings of these modules may name options: they build command lines, of git or of mien, or pages that show some.
COMMAND_LINES = {
    "explanation/embedding_page.py",  # variables of a style sheet
    "reproduction/ablations.py",
    "reproduction/jobs.py",
    "reproduction/page.py",
    "reproduction/queue.py",
    "training/runs/environment.py",
}


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.parent.name != "cli"],
    ids=lambda path: path.relative_to(ROOT / "mien").as_posix(),
)
def test_the_library_names_parameters_not_options(path: Path) -> None:
    """The command line writes them as options (mien/cli/messages.py)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree)
                  if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    named = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and OPTION.search(node.value)
        if id(node) not in docstrings
    ]
    assert named == [] or path.relative_to(ROOT / "mien").as_posix() in COMMAND_LINES


#: Names of version 0.1, and British spellings. Plain English words are left out.
OLD_NAMES = re.compile(
    r"\bmien\.(?:run|learn|evaluate|explain|app)\.|\bmien/(?:run|learn|evaluate|explain|app)/"
    r"|\b(?:Suspicion|Twins|Course|Wish|Wishes|Teller)\b"
    r"|\b(?:complain|need_torch|need_jinja|keep_inputs|keep_notes|in_threads|gives_logits|find_twins|whose_labels"
    r"|to_score|go_on_in_child|begins_s)\b"
    r"|--(?:least|apart|i-know|slow-too|no-near|no-nonfaces|known|of)(?![\w-])"
    r"|\b(?:licences?|(?:un|de)?quantis\w+|colour\w*|normalis\w+|analys(?:e|ed|er|ing)|greys?|behaviour\w*"
    r"|initialis\w+|optimis\w+|labell(?:ed|ing)|centres?)\b"
)
#: They read files of version 0.1, which have its names.
OLD_READERS = {
    "mien/analysis/inference/model_file.py",
    "mien/analysis/people/records.py",
    "mien/core/preprocessing.py",
    "mien/service/jobs/old_jobs.py",
    "mien/training/recipe.py",
    "mien/training/targets.py",
}
SOURCES = [
    path
    for folder, pattern in (
        ("mien", "**/*"),
        ("docs", "*.md"),
        ("benchmarks", "*.py"),
        ("examples", "*"),
        (".", "*.md"),
    )
    for path in sorted((ROOT / folder).glob(pattern))
    if path.suffix in {".py", ".js", ".html", ".css", ".toml", ".md", ".ipynb"} and path.name != "CHANGELOG.md"
]


def test_no_old_name_is_left() -> None:
    found = {
        f"{path.relative_to(ROOT).as_posix()}: {name}"
        for path in SOURCES
        if path.relative_to(ROOT).as_posix() not in OLD_READERS
        for name in OLD_NAMES.findall(path.read_text(encoding="utf-8"))
    }
    assert found == set()
