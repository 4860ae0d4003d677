"""The documents say what is true: commands are generated, links lead somewhere, the README's Python runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ASTRONAUT, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_commands_page_is_what_the_program_says() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text) + re.findall(r'src="(?!https?:)([^"]+)"', text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_documents_exist(page: Path) -> None:
    import typer

    from mien.app.cli import app

    groups = typer.main.get_command(app).commands
    shown = "\n".join(re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))
    for verb, below in re.findall(r"^mien (\w+)(?: (\w+))?", shown, flags=re.MULTILINE):
        assert verb in groups
        if getattr(groups[verb], "commands", None) and below:
            assert below in groups[verb].commands


def test_the_architecture_names_every_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = [path for path in (ROOT / "mien").rglob("*.py") if path.name != "__init__.py"]
    assert [path.name for path in modules if path.name not in text] == []


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for code in blocks:
        code = code.replace('"photo.jpg"', repr(str(ASTRONAUT)))
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "happy" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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
