"""The documents say what is true: commands are generated, links lead somewhere, the README's Python runs."""

from __future__ import annotations

import ast
import builtins
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip

from mien import __version__
from mien.cli.main import VERBS, load_verb, main
from mien.core.labels import FERPLUS_COLUMNS
from mien.core.types import concatenate_faces
from mien.data.readers import save_faces
from tests.conftest import ASTRONAUT, ROOT, patterns
from tests.data.files import write_csv

#: The pages for contributors hold pieces of code that are to be put into modules; these do not run by themselves.
GUIDES = [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def python_of(page: Path) -> list[str]:
    blocks = re.findall(r"^ *```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks]


@pytest.mark.slow
def test_the_commands_page_is_what_the_program_says() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES + GUIDES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text) + re.findall(r'src="(?!https?:)([^"]+)"', text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


def anchors_of(page: Path) -> set[str]:
    """The names by which the headings of a page are linked to."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    heads = [
        re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", head) for head in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    ]
    return {re.sub(r"[^\w -]", "", head.strip().lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES + GUIDES, ids=lambda page: page.name)
def test_links_into_a_page_lead_to_headings(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]*\.md|)#([^)]+)\)", page.read_text(encoding="utf-8"))
    absent = [
        f"{file}#{anchor}" for file, anchor in links if anchor not in anchors_of(page.parent / file if file else page)
    ]
    assert absent == []


@pytest.mark.parametrize("page", PAGES + GUIDES, ids=lambda page: page.name)
def test_commands_and_options_in_documents_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)).replace("\\\n", " ")
    lines = [re.sub(r"\s#.*", "", line) for line in blocks.splitlines()] + re.findall(r"`([^`]*)`", text)
    for line in lines:
        shown = re.match(r"(?:\S*/)?mien ([a-z].*)", " ".join(line.split()))
        if shown is None:
            continue
        name, *words = shown[1].split()
        assert name in VERBS, f"'{line}': there is no such command"
        verb = load_verb(name)
        while words and words[0] in getattr(verb, "commands", {}):
            verb = verb.commands[words.pop(0)]
        known = {option for given in verb.params for option in (*given.opts, *given.secondary_opts)}
        named = set(re.findall(r"--[a-z][a-z-]*", " ".join(words)))
        assert named <= known | {"--help"}, f"'{line}': there is no such option"


@pytest.fixture(scope="module")
def somewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the documents speak of."""
    folder = tmp_path_factory.mktemp("documents")
    shutil.copy(ASTRONAUT, folder / "photo.jpg")
    (folder / "examples").mkdir()
    shutil.copy(ASTRONAUT, folder / "examples" / "astronaut.jpg")
    faces = concatenate_faces([patterns(14), patterns(14, split="PublicTest", seed=1)])
    save_faces(faces, folder / "fer2013.csv")
    votes = np.full((len(faces), len(FERPLUS_COLUMNS)), 1)
    votes[:, 0] = 0
    rows = [[split, "fer.png", *row] for split, row in zip(faces.split.tolist(), votes.tolist(), strict=True)]
    write_csv(folder / "fer2013new.csv", ["Usage", "Image name", *FERPLUS_COLUMNS], rows)
    make_clip(folder / "clip.mp4", seconds=1, size_wh=(320, 240))
    assert (
        main(["analyze", str(folder / "clip.mp4"), "--detector", "haar", "--quiet", "--out", str(folder / "mien-out")])
        == 0
    )
    return folder


#: What the documents' Python takes as given.
GIVEN = """
import numpy as np
from PIL import Image
picture = np.asarray(Image.open("photo.jpg"))
faces = crops = np.full((2, 48, 48), 128, np.uint8)
targets = np.array([3, 3])
"""


@pytest.mark.parametrize("page", [page for page in PAGES if python_of(page)], ids=lambda page: page.name)
def test_the_python_of_documents_runs(
    page: Path, somewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, with names of its own: a process of its own takes seconds to import torch."""
    monkeypatch.chdir(somewhere)
    exec(compile("\n".join([GIVEN, *python_of(page)]), page.name, "exec"), {"__name__": "__main__"})
    if page.name == "README.md":
        assert "happy" in capsys.readouterr().out


def test_what_the_guide_for_contributors_imports_and_changes_exists() -> None:
    guide = ROOT / "CONTRIBUTING.md"
    new = {
        "mien/data/layouts/list_layout.py",
        "mien/analysis/output/exports/audacity.py",
        "tests/data/test_list_layout.py",
        "tests/service/page/test_browser_about.py",
    }
    named = re.findall(r"`((?:mien|tests|docs|benchmarks)/[\w/]+\.\w+)`", guide.read_text(encoding="utf-8"))
    assert [name for name in named if name not in new and not (ROOT / name).exists()] == []
    lines = [line for code in python_of(guide) for line in code.splitlines()]
    imports = "\n".join(line for line in lines if re.match(r"from (mien|tests)\b.* import ", line))
    assert imports.count("\n") > 8
    done = subprocess.run([sys.executable, "-c", imports], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_citation_names_the_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES + GUIDES, ids=lambda page: page.name)
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert re.findall(r"@[A-Z]+@|\bTODO\b|\bTBD\b", page.read_text(encoding="utf-8")) == []


def test_nothing_points_at_a_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = {
        name: (ROOT / name).read_text(encoding="utf-8")
        for name in tracked
        if name.endswith((".py", ".md", ".toml", ".txt"))
    }
    pattern = re.compile(r"(?<![\w.])/(home|root|Users)/\w|extra-index" + "-url")
    assert [name for name, text in texts.items() if pattern.search(text)] == []


def _worked_examples() -> list[tuple[str, str, str]]:
    """(language, module that the text names last before the block, code) of CONTRIBUTING's examples."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    examples = []
    for match in re.finditer(r"^( *)```(python|js)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        modules = re.findall(r"`((?:mien|tests)/[\w/]+\.py|\w+\.js)`", text[: match.start()])
        examples.append((match[2], modules[-1] if modules else "", textwrap.dedent(match[3])))
    return examples


def test_the_python_examples_for_contributors_use_names_that_exist() -> None:
    examples = [
        (module, ast.parse(code.removeprefix("el")))
        for language, module, code in _worked_examples()
        if language == "python"
    ]
    own = {
        node.name for _, tree in examples for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    own |= {node.arg for _, tree in examples for node in ast.walk(tree) if isinstance(node, ast.arg)}
    own |= {node.id for _, tree in examples for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}  # fmt: skip
    own |= {node.asname or node.name for _, tree in examples for node in ast.walk(tree) if isinstance(node, ast.alias)}
    own |= {node.name for _, tree in examples for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)}
    missing = []
    for module, tree in examples:
        known = (
            (ROOT / module).read_text(encoding="utf-8") if (ROOT / module).exists() else ""
        )  # some are to be created
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        missing += [
            (module, name) for name in sorted(used - own - set(dir(builtins))) if not re.search(rf"\b{name}\b", known)
        ]
    assert examples and not missing


def test_the_javascript_examples_for_contributors_import_what_is_exported() -> None:
    imports = [
        (name.strip(), module)
        for language, _, code in _worked_examples() if language == "js"
        for names, module in re.findall(r"import \{([^}]+)\} from \"\./([\w.]+)\"", code)
        for name in names.split(",")
    ]  # fmt: skip
    page = ROOT / "mien" / "service" / "page"
    missing = [
        (name, module)
        for name, module in imports
        if not re.search(
            rf"export (async )?(const|let|function\*?) {re.escape(name)}(?!\w)",
            (page / module).read_text(encoding="utf-8"),
        )
    ]
    assert imports and not missing
