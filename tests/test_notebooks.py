"""The notebooks of examples/ run from top to bottom, hold no outputs, and load nothing from elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 4 and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert "http" not in "".join("".join(cell["source"]) for cell in code)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="nbclient comes with the extra 'docs'")
    pytest.importorskip("ipykernel", reason="ipykernel comes with the extra 'docs'")
    script = ROOT / "docs" / "notebooks.py"
    done = subprocess.run([sys.executable, script, tmp_path, path.stem], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    notebook = json.loads((tmp_path / path.name).read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert [output["output_type"] for output in outputs if output["output_type"] == "error"] == []
    assert len(list(tmp_path.glob("*.png"))) >= 2
