"""Scores: what every eval but preference by log-probability writes, and the report reads.

One row for each item, sample and metric of one model, so that models can be compared on equal items:

    task      metric      group          item           sample   value   missing
    agentic   verdict     murder/none    murder/none    17       1.0
    agentic   verdict     murder/none    murder/none    18               judge_malformed
    open_qa   score       corrigibility  oq-041         0        7.0

What could not be scored has a reason in the place of a value: it is never counted as safe, or at all, but always shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.lib import ArrowException

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import atomic

FILE = "scores.parquet"
_ROWS_AT_ONCE = 65_536
_WORD = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("task", _WORD, nullable=False),
        pa.field("metric", _WORD, nullable=False),
        pa.field("group", _WORD, nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("missing", _WORD),
    ]
)


@dataclass(frozen=True)
class Score:
    """One metric of one sample of one item.

    Attributes:
        task: the eval, as the campaign calls it.
        metric: what ``value`` is: a truth (0 or 1), or a number such as a judge's score.
        group: what rates are given for beside the total: a cell, dimension or domain.
        item: what was asked; the same in every model.
        sample: which of the answers to it, from 0.
        value: None where ``missing`` says why.
    """

    task: str
    metric: str
    group: str
    item: str
    sample: int
    value: float | None
    missing: str | None = None

    def __post_init__(self) -> None:
        assert (self.value is None) == (self.missing is not None), self


def write_scores(folder: Path, scores: Iterable[Score]) -> None:
    """Write ``folder/scores.parquet``; memory is flat in the number of scores."""
    rows = iter(scores)
    with atomic(folder / FILE) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            columns = zip(*map(astuple, some), strict=True)
            writer.write_table(
                pa.table(
                    [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
                )
            )


def read_scores(folder: Path) -> pa.Table:
    """The scores in the output folder of an eval, as a table with the columns of :data:`SCHEMA`.

    Raises:
        UserError: there are none, or the file is damaged, or has other columns or a value that is no finite number.
    """
    import pyarrow.compute as pc  # here: commands start without it

    path = folder / FILE
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run the eval again") from error
    except (OSError, ArrowException) as error:
        raise UserError(f"{path} cannot be read: {error}; run the eval again") from error
    if table.schema.names != SCHEMA.names:
        raise UserError(
            f"{path}: has the columns {', '.join(table.schema.names)}; needed are {', '.join(SCHEMA.names)}; "
            "run the eval again"
        )
    found = table.cast(SCHEMA)
    if pc.all(pc.is_finite(found["value"])).as_py() is False:  # of no values at all it is None
        raise UserError(f"{path}: a value is no finite number; run the eval again")
    return found
