"""What must stay light: `import mien` costs next to nothing, and the runtime never imports torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ASTRONAUT, ROOT


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh process has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.splitlines()[-1].split())


def test_import_mien_loads_nothing_heavy() -> None:
    assert modules_after("import mien").isdisjoint(
        {"numpy", "cv2", "torch", "onnxruntime", "PIL", "typer", "matplotlib"}
    )


def test_analyzing_a_photograph_needs_no_torch_and_nothing_of_training() -> None:
    heavy = {"torch", "onnx", "onnxscript", "pydantic", "pyarrow", "sklearn", "scipy"}
    loaded = modules_after(f"from mien import Recognizer\nassert Recognizer('base').analyze({str(ASTRONAUT)!r})")
    assert loaded.isdisjoint(heavy)
    assert loaded.isdisjoint({"matplotlib", "av", "pooch", "requests"})


def test_the_program_needs_no_torch_to_analyze(tmp_path: Path) -> None:
    run = f"from mien.cli.main import main\nassert main(['analyze', {str(ASTRONAUT)!r}, '--no-media', '--out', {str(tmp_path)!r}]) == 0"
    assert modules_after(run).isdisjoint({"torch", "matplotlib", "av", "pyarrow", "pooch"})


def test_data_sets_and_scores_need_no_torch() -> None:
    assert "torch" not in modules_after("import mien.data, mien.evaluation, mien.evaluation.tables, mien.data.splits")
