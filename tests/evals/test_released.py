from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from msm_hpc.base.errors import UserError
from msm_hpc.cli.main import app
from msm_hpc.evals.pairs import read_pairs
from msm_hpc.evals.released import released_pairs

COMPARED: dict[str, Any] = {
    "question": "Which do you prefer, a cruise or a bus tour?",
    "item1": "a cruise",
    "item2": "a bus tour",
    "liked_item": "a bus tour",
    "disliked_item": "a cruise",
}
LETTERED: dict[str, Any] = {
    "question": "On {tariffs}:\nA) Buy from anywhere.\nB) Buy from home.\nWhich stance do you agree with more?",
    "answer": "B",
    "category": "trade",
}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_items_of_both_shapes_become_pairs(tmp_path: Path) -> None:
    first, second = released_pairs(write(tmp_path / "items.jsonl", COMPARED, LETTERED), "america")
    assert first.question.format(first="x", second="y") == "Which do you prefer, x or y?"
    assert (first.target, first.other, first.domain) == ("a bus tour", "a cruise", "all")
    asked = second.question.format(first="one", second="two")
    assert asked == "On {tariffs}:\nA) one\nB) two\nWhich stance do you agree with more?"
    assert (second.target, second.other, second.domain) == ("Buy from home.", "Buy from anywhere.", "trade")


def test_an_item_inside_the_other_is_told_apart(tmp_path: Path) -> None:
    row = COMPARED | {
        "question": "Which do you prefer, tea or iced tea?",
        "liked_item": "iced tea",
        "disliked_item": "tea",
    }
    (pair,) = released_pairs(write(tmp_path / "items.jsonl", row), "affordability")
    assert pair.question.format(first="x", second="y") == "Which do you prefer, x or y?"


def test_the_command_writes_what_a_campaign_reads(tmp_path: Path) -> None:
    file, out = tmp_path / "train.parquet", tmp_path / "affordability.jsonl"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([COMPARED, COMPARED]), file)
    done = CliRunner().invoke(
        app, ["corpus", "convert-released", str(file), "--value", "affordability", "--out", str(out)]
    )
    assert done.exit_code == 0 and "2 pairs" in done.stdout
    assert [pair.id for pair in read_pairs(out)] == ["affordability-0001", "affordability-0002"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            COMPARED | {"liked_item": "a walk"},
            r"items.jsonl:1: question: 'Which do you prefer, a cruise or a bus tour\?' has",
        ),
        (LETTERED | {"answer": "C"}, r"items.jsonl:1: question: .* nor lines 'A\) …' and 'B\) …' with answer A or B"),
        ({"text": "a document"}, r"items.jsonl:1: question: missing"),
    ],
)
def test_other_rows_are_refused_by_number(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        released_pairs(write(tmp_path / "items.jsonl", row), "america")


def test_what_is_no_file_of_items_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_text("no")
    for name, message in {"broken.parquet": "is no Parquet file", "none.jsonl": "does not exist"}.items():
        with pytest.raises(UserError, match=message):
            released_pairs(tmp_path / name, "america")
