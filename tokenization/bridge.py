"""A pack plan and its shards as packed Parquet for Megatron-Bridge.

What Megatron-Bridge's ``GPTSFTPackedParquetDataset`` reads (``megatron.bridge.data.packing``, version 0.6.2, files
``parquet.py`` and ``gpt_sft.py``): a folder of ``*.idx.parquet`` files with the columns ``input_ids`` (list of int32),
``loss_mask`` (list of int8) and ``seq_start_id`` (list of int32), one row a training row. Of each document it takes
all tokens but the last as inputs and all but the first as labels, and weighs the loss at input ``i`` with
``loss_mask[i]``. So our mask, which says of each token whether it is a target, is moved one place to the left within
each document::

    tokens      a b c d | e f       seq_start_id  0 4
    our mask    0 0 1 1 | 0 1
    loss_mask   0 1 1 0 | 1 0

A document of n tokens so becomes n - 1 tokens of input; ``packed_sequence_size`` may be the plan's ``sequence_length``.
Leave ``answer_only_loss`` on, as it is by default: without it Megatron-Bridge ignores the mask.

One row is read by reading its row group, so groups are small; a file's groups are all listed in its footer, so files
are too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.files import sha256_of
from tokenization.manifest import FileRecord, record_files, write_manifest
from tokenization.packing.plan import PIECES, Plan
from tokenization.shards import Shard

if TYPE_CHECKING:
    import pyarrow

ROWS_IN_GROUP = 8
ROWS_IN_FILE = 1 << 15


@dataclass(frozen=True)
class BridgeManifest:
    """``manifest.json`` of the exported folder.

    Attributes:
        plan_sha256: of the plan's ``pieces.npy``.
        tokens: in all rows, without padding; there is none in the files.
    """

    plan_sha256: str
    sequence_length: int
    rows: int
    tokens: int
    files: Mapping[str, FileRecord]


def export(plan_folder: Path, sources: Mapping[str, Path], out: Path) -> None:
    """Write ``rows-00000.idx.parquet`` and so on, and ``manifest.json``.

    Args:
        plan_folder: a pack folder.
        sources: the name of each source of the plan to its folder.
        out: an existing folder.

    Raises:
        UserError: a shard is not given or not the one that was packed, or a folder is damaged.
    """
    plan = Plan(plan_folder)
    shards = plan.open_shards(sources)
    rows = range(len(plan))
    names = [
        _write_file(out, number, plan, shards, rows[first : first + ROWS_IN_FILE])
        for number, first in enumerate(rows[::ROWS_IN_FILE])
    ]
    manifest = BridgeManifest(
        plan_sha256=sha256_of(plan_folder / PIECES),
        sequence_length=plan.sequence_length,
        rows=len(plan),
        tokens=plan.total_tokens,
        files=record_files(out, names),
    )
    write_manifest(out, manifest)


def _write_file(out: Path, number: int, plan: Plan, shards: Mapping[str, Shard], rows: range) -> str:
    import pyarrow
    import pyarrow.parquet

    name = f"rows-{number:05}.idx.parquet"
    schema = pyarrow.schema(
        [
            ("input_ids", pyarrow.list_(pyarrow.int32())),
            ("loss_mask", pyarrow.list_(pyarrow.int8())),
            ("seq_start_id", pyarrow.list_(pyarrow.int32())),
        ]
    )
    with pyarrow.parquet.ParquetWriter(out / name, schema, use_dictionary=False, compression="zstd") as file:
        for first in rows[::ROWS_IN_GROUP]:
            group = [_row(plan, shards, row) for row in range(first, min(first + ROWS_IN_GROUP, rows.stop))]
            columns = [_lists(column) for column in zip(*group, strict=True)]
            file.write_batch(pyarrow.record_batch(columns, schema))
    return name


def _row(
    plan: Plan, shards: Mapping[str, Shard], index: int
) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int32]]:
    """The three columns of one row."""
    pieces = plan.row(index)
    lengths = np.array([piece.length for piece in pieces])
    ends = np.cumsum(lengths)
    spans = [slice(piece.start, piece.start + piece.length) for piece in pieces]
    ids = [shards[piece.shard].tokens(piece.document)[span] for piece, span in zip(pieces, spans, strict=True)]
    masks = [shards[piece.shard].loss_mask(piece.document)[span] for piece, span in zip(pieces, spans, strict=True)]
    mask = np.roll(np.concatenate(masks), -1)
    mask[ends - 1] = 0
    return np.concatenate(ids, dtype=np.int32), mask.astype(np.int8), (ends - lengths).astype(np.int32)


def _lists(rows: Sequence[NDArray[Any]]) -> pyarrow.ListArray:
    """A column of the rows' lists."""
    import pyarrow

    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return pyarrow.ListArray.from_arrays(offsets, np.concatenate(rows))
