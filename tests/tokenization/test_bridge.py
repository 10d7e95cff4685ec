import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from msm_hpc.base.errors import UserError
from tests.tokenization.packing.shard_folders import chat, text, write_source
from tokenization import bridge
from tokenization.manifest import check_files
from tokenization.packing import pack
from tokenization.packing.pack import PackConfig, PackInputs
from tokenization.packing.plan import Plan
from tokenization.packing.selection import Take
from tokenization.shards import Shard


@dataclass(frozen=True)
class Packed:
    plan_folder: Path
    sources: Mapping[str, Path]


@pytest.fixture
def packed(tmp_path: Path) -> Packed:
    """Texts and chats of 2 to 31 tokens in rows of 64."""
    documents = [(chat if place % 2 else text)(place * 7 % 30 + 2, first=10 + place) for place in range(60)]
    sources = {"s": write_source(tmp_path, "s", documents, tasks=2)}
    folder = tmp_path / "plan"
    folder.mkdir()
    pack.run(PackConfig(sequence_length=64, sources=(Take(source="s"),)), PackInputs(shards=sources), folder)
    return Packed(folder, sources)


def targets(row: Mapping[str, list[int]]) -> list[tuple[int, int, int]]:
    """(input, label, weight) of each position, read as Megatron-Bridge's packed dataset does."""
    bounds = [*row["seq_start_id"], len(row["input_ids"])]
    return [
        (row["input_ids"][place], row["input_ids"][place + 1], row["loss_mask"][place])
        for begin, end in pairwise(bounds)
        for place in range(begin, end - 1)
    ]


def test_what_is_read_back_is_the_plan(packed: Packed, tmp_path: Path) -> None:
    out = tmp_path / "bridge"
    out.mkdir()
    bridge.export(packed.plan_folder, packed.sources, out)
    rows = parquet.read_table(out / "rows-00000.idx.parquet").to_pylist()
    plan, shards = Plan(packed.plan_folder), {f"s/{task}": Shard(packed.sources["s"] / str(task)) for task in range(2)}
    assert len(rows) == len(plan)
    for index, row in enumerate(rows):
        expected: list[tuple[int, int, int]] = []
        for piece in plan.row(index):
            tokens, mask = shards[piece.shard].tokens(piece.document), shards[piece.shard].loss_mask(piece.document)
            expected += zip(tokens[:-1].tolist(), tokens[1:].tolist(), mask[1:].tolist(), strict=True)
        assert targets(row) == expected
        assert len(row["loss_mask"]) == len(row["input_ids"]) <= 64
        assert all(row["loss_mask"][end - 1] == 0 for end in [*row["seq_start_id"][1:], len(row["input_ids"])])


def test_files_and_row_groups_are_small(packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenization.bridge.ROWS_IN_FILE", 10)
    monkeypatch.setattr("tokenization.bridge.ROWS_IN_GROUP", 4)
    whole, out = len(Plan(packed.plan_folder)), tmp_path / "bridge"
    out.mkdir()
    bridge.export(packed.plan_folder, packed.sources, out)
    files = sorted(out.glob("*.idx.parquet"))
    groups = []
    for path in files:
        metadata = parquet.read_metadata(path)
        groups.append([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])
    assert groups[0] == [4, 4, 2]
    assert sum(map(sum, groups)) == whole
    lists = {
        name: str(parquet.read_schema(files[0]).field(name).type.value_type) for name in ("input_ids", "loss_mask")
    }
    assert lists == {"input_ids": "int32", "loss_mask": "int8"}
    first = parquet.read_table(files).column("input_ids")
    assert np.sum([len(ids) for ids in first]) == Plan(packed.plan_folder).total_tokens


def test_the_manifest_vouches_for_the_files(packed: Packed, tmp_path: Path) -> None:
    out = tmp_path / "bridge"
    out.mkdir()
    bridge.export(packed.plan_folder, packed.sources, out)
    recorded = json.loads((out / "manifest.json").read_text())
    plan = Plan(packed.plan_folder)
    assert (recorded["sequence_length"], recorded["rows"], recorded["tokens"]) == (64, len(plan), plan.total_tokens)
    assert check_files(out) == 1


def test_a_missing_shard_is_named(packed: Packed, tmp_path: Path) -> None:
    (packed.sources["s"] / "1").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="its rows hold documents of s/1; give these shards too"):
        bridge.export(packed.plan_folder, packed.sources, tmp_path)
