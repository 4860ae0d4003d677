"""Run the notebooks of examples/ and write them, with their outputs, and their pictures into a folder.

python docs/notebooks.py OUT [NAME ...]     NAME: as in first-steps; default: all
"""

from __future__ import annotations

import argparse
import base64
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

#: Seconds that one cell may take.
TIMEOUT_S = 900


def run_notebook(path: Path, out: Path) -> list[Path]:
    """Run a notebook in its own folder and write it to ``out``; return the paths of its pictures. Raises CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    nbformat.write(notebook, out / path.name)
    return [picture for cell in notebook.cells for picture in _write_pictures(cell, out, path.stem)]


def _write_pictures(cell: Any, out: Path, stem: str) -> list[Path]:
    written = []
    for number, output in enumerate(cell.get("outputs", [])):
        if (data := output.get("data", {}).get("image/png")) is not None:
            written.append(out / f"{stem}.{cell.id}.{number}.png")
            written[-1].write_bytes(base64.b64decode(data))
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", default=sorted(path.stem for path in EXAMPLES.glob("*.ipynb")))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        pictures = run_notebook(EXAMPLES / f"{name}.ipynb", options.out)
        print(f"{name}: {len(pictures)} pictures in {options.out}")


if __name__ == "__main__":
    main()
