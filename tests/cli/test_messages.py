"""What the program prints: parameters of the library's errors as options, results as text or JSON, tables."""

from __future__ import annotations

import json

import pytest

from mien.cli.messages import emit, format_error, format_table, name_options, pluralize, print_note
from mien.core.errors import DataError, MediaError, UsageError


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("choose another folder with `out`", "choose another folder with --out"),
        ("skip broken rows with `skip_bad=True`", "skip broken rows with --skip-bad"),
        ("leave them out with `near_duplicates=False`", "leave them out with --no-near-duplicates"),
        ("read it with `size=48`", "read it with --size 48"),
        ("as in `schedule.epochs=10`", "as in --set schedule.epochs=10"),
        ("see `schedule.epochs`", "see --set schedule.epochs"),
        ("`smoothing_s=-1`", "--smoothing -1"),
        ("`out` and `data`", "--out and --data"),
        ("`color=0,255,0`", "--color 0,255,0"),
        ("no parameter is named", "no parameter is named"),
        ("`Two words`", "`Two words`"),
        ("'mien models pull yunet'", "'mien models pull yunet'"),
    ],
)
def test_parameters_are_written_as_options(text: str, written: str) -> None:
    assert name_options(text) == written


def test_the_name_of_an_error_is_an_option_only_where_it_is_a_parameter() -> None:
    assert format_error(UsageError("`tta=ten`", "is unknown", "choose `tta=flip`")) == (
        "--tta ten: is unknown; choose --tta flip"
    )
    assert format_error(DataError("`exclude`", "names no row", "check it")) == "--exclude: names no row; check it"


def test_backticks_in_the_name_of_a_file_stay() -> None:
    error = MediaError("a `out` b.jpg", "is empty", "copy it again, or choose another folder with `out`")
    assert format_error(error) == "a `out` b.jpg: is empty; copy it again, or choose another folder with --out"


@pytest.mark.parametrize(
    ("as_json", "quiet", "printed"),
    [
        (False, False, "two faces\n"),
        (False, True, ""),
        (True, False, '{\n  "faces": 2\n}\n'),
        (True, True, '{\n  "faces": 2\n}\n'),
    ],
)
def test_a_result_is_printed_as_text_or_json(
    as_json: bool, quiet: bool, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    emit({"faces": 2}, "two faces", as_json=as_json, quiet=quiet)
    assert capsys.readouterr() == (printed, "")


def test_json_is_one_document_in_any_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"label": "fröhlich"}, "", as_json=True)
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"label": "fröhlich"}


@pytest.mark.parametrize(("quiet", "printed"), [(False, "note: few faces\n"), (True, "")])
def test_notes_go_to_stderr(quiet: bool, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_note("note: few faces", quiet=quiet)
    assert capsys.readouterr() == ("", printed)


def test_columns_of_a_table_are_aligned() -> None:
    rows = [["split", "faces", "note"], ["train", "1,200", "x"], ["t", "7", ""]]
    assert format_table(rows, left=(0, 2), indent="  ") == ("  split  faces  note\n  train  1,200  x\n  t          7")


@pytest.mark.parametrize(
    ("count", "word", "text"), [(1, "face", "1 face"), (2000, "face", "2,000 faces"), (0, "change", "0 changes")]
)
def test_counts_have_their_words(count: int, word: str, text: str) -> None:
    assert pluralize(count, word) == text
