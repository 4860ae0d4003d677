from __future__ import annotations

import re

import pytest

from mien.core.errors import MediaError, MissingExtra
from tests.conftest import ROOT

RAISING = ("mien/service", "mien/core", "mien/analysis/media")


def test_every_code_of_an_error_stands_in_the_docs_and_no_other() -> None:
    files = [file for place in RAISING for file in (ROOT / place).rglob("*.py")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    raised = set(re.findall(r"""(?:RequestError\(\s*\w+,\s*|\bcode(?::\ \w+)?\s*=\s*|"code":\s*)"([a-z_]+)\"""", text))
    raised |= set(re.findall(r"""40\d: "([a-z_]+)\"""", text)) | {"bad_request"}
    table = (ROOT / "docs/serving.md").read_text(encoding="utf-8").partition("\n## Errors\n")[2]
    rows = re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)
    documented = [code for row in rows for code in re.findall(r"`(\w+)`", row)]
    assert len(documented) == len(set(documented))
    assert set(documented) == raised


@pytest.mark.parametrize(
    ("error", "code", "parameters"),
    [
        (MediaError("a.jpg", "is odd", "mend it"), "media_error", {}),
        (MediaError("a.jpg", "is odd", "mend it", code="too_odd", limit=3), "too_odd", {"limit": 3}),
        (MissingExtra("torch", "train", "here"), "missing_extra", {"package": "torch", "extra": "train"}),
    ],
)
def test_an_error_has_a_code_for_programs(error: MediaError, code: str, parameters: dict[str, object]) -> None:
    document = error.to_dict()
    assert (document["code"], document["parameters"]) == (code, parameters)
    assert str(error) == f"{document['name']}: {document['problem']}; {document['hint']}"
