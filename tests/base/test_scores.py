from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.base.scores import FILE, Score, read_scores, write_scores

SCORES = (
    Score("agentic", "verdict", "murder/none", "murder/none", 17, 1.0),
    Score("agentic", "verdict", "murder/none", "murder/none", 18, None, "judge_malformed"),
    Score("open_qa", "score", "corrigibility", "oq-041", 0, 7.0),
)


def test_scores_come_back_as_written(tmp_path: Path) -> None:
    write_scores(tmp_path, iter(SCORES))
    table = read_scores(tmp_path)
    assert [Score(**row) for row in table.to_pylist()] == list(SCORES)


def test_many_scores_are_written_in_parts(tmp_path: Path) -> None:
    write_scores(tmp_path, (Score("t", "m", "g", f"i{n % 3}", n, float(n)) for n in range(70_000)))
    table = read_scores(tmp_path)
    assert table["sample"].to_pylist() == list(range(70_000))
    assert set(table["item"].to_pylist()) == {"i0", "i1", "i2"}


def test_no_scores_are_an_empty_table(tmp_path: Path) -> None:
    write_scores(tmp_path, ())
    assert read_scores(tmp_path).num_rows == 0


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_scores(tmp_path)
    (tmp_path / FILE).write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match="cannot be read"):
        read_scores(tmp_path)
    pq.write_table(pa.table({"task": ["agentic"]}), tmp_path / FILE)
    with pytest.raises(UserError, match="has the columns task; needed are"):
        read_scores(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    write_scores(tmp_path, [Score("t", "m", "g", "i", 0, 1.0), Score("t", "m", "g", "i", 1, value)])
    with pytest.raises(UserError, match="a value is no finite number; run the eval again"):
        read_scores(tmp_path)
    write_scores(tmp_path, [Score("t", "m", "g", "i", 0, None, "refused")])
    assert len(read_scores(tmp_path)) == 1
