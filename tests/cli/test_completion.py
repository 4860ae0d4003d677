"""A shell completes verbs, options, and names of models and recipes, after `mien --install-completion`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mien.cli.main import VERBS, load_verb, main

BASH = shutil.which("bash")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("mien mo", ["moments", "models"]),
        ("mien data s", ["split"]),
        ("mien analyze --no-m", ["--no-media"]),
        ("mien analyze --model b", ["base"]),
        ("mien evaluate na", ["nano"]),
        ("mien train r4-d", ["r4-dnn"]),
    ],
)
def test_names_are_completed(
    words: str, completed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the program answers to a bash that completes the last word."""
    monkeypatch.setenv("_MIEN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    with pytest.raises(SystemExit):
        main([])
    out, err = capsys.readouterr()
    assert (out.split(), err) == (completed, "")


@pytest.mark.skipif(BASH is None, reason="there is no bash here")
def test_completion_is_installed_in_a_new_home(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "mien"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom mien.cli.main import run\nrun()\n")
    program.chmod(0o755)
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root),
    }

    def run_bash(script: str) -> str:
        command = [str(BASH), "--norc", "-c", f"{script}\ntrue"]  # "true": bash stays the parent of the program
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    assert "complete -o default -F _mien_completion mien" in run_bash("mien --show-completion")
    assert "bash completion installed in" in run_bash("mien --install-completion")
    assert str(tmp_path / ".bash_completions" / "mien.sh") in (tmp_path / ".bashrc").read_text()
    script = 'source ~/.bashrc; COMP_WORDS=(mien mom); COMP_CWORD=1; _mien_completion mien; echo "${COMPREPLY[@]}"'
    assert run_bash(script) == "moments\n"


@pytest.mark.parametrize("verb", VERBS)
def test_the_list_of_verbs_has_the_first_line_of_their_help(verb: str) -> None:
    first_line = (load_verb(verb).help or "").split("\n")[0]
    assert first_line == VERBS[verb][1]


def test_help_of_every_verb_needs_no_extra() -> None:
    """The modules of all verbs are imported without what only the extras bring."""
    code = "from mien.cli.main import VERBS, load_verb\nfor verb in VERBS: load_verb(verb)\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    extras = {"torch", "onnx", "pydantic", "pyarrow", "jinja2", "plotly", "sklearn", "captum", "skimage", "fastapi"}
    assert set(done.stdout.split()).isdisjoint(extras | {"matplotlib", "uvicorn"})


def test_help_of_the_program_loads_no_verb() -> None:
    code = "from mien.cli.main import main\nmain(['--help'])\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.splitlines()[-1].split()).isdisjoint(
        {"numpy", "cv2", "onnxruntime", "av", "mien.cli.analyze"}
    )
