from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from tests.tokenization.packing.shard_folders import Doc, chat, text, write_source
from tokenization.packing.forecast import rows_of_shards
from tokenization.packing.pack import PackConfig, PackInputs, run
from tokenization.packing.plan import Plan
from tokenization.packing.selection import Take


@pytest.mark.parametrize("take", [Take(source="a"), Take(source="a", samples=20), Take(source="a", tokens=700)])
def test_rows_are_those_of_the_plan_where_no_text_is_cut(tmp_path: Path, take: Take) -> None:
    documents: list[Doc] = [(chat if place % 3 == 0 else text)(place * 7 % 60 + 2) for place in range(60)]
    documents.append(chat(65))
    shards = {"a": write_source(tmp_path, "a", documents, tasks=3)}
    config = PackConfig(sequence_length=64, sources=(take,))
    plan = tmp_path / "plan"
    plan.mkdir()
    run(config, PackInputs(shards=shards), plan)
    assert rows_of_shards(config, shards) == len(Plan(plan))


def test_rows_are_those_of_the_plan_without_what_is_left_out(tmp_path: Path) -> None:
    shards = {"a": write_source(tmp_path, "a", [text(30) for _ in range(20)], tasks=2)}
    lines = '{"id":"x","kind":"document","provenance":{"kind":"even"}}\n{"id":"y","kind":"document","provenance":{}}\n'
    for task in range(2):
        (shards["a"] / str(task) / "documents.jsonl").write_text(lines * 5)
    everything = PackConfig(sequence_length=64, sources=(Take(source="a"),))
    part = PackConfig(sequence_length=64, sources=(Take(source="a", without=("kind=even",)),))
    assert (rows_of_shards(everything, shards), rows_of_shards(part, shards)) == (10, 5)


def test_more_than_there_is_has_no_rows(tmp_path: Path) -> None:
    shards = {"a": write_source(tmp_path, "a", [text(5)])}
    with pytest.raises(UserError, match="samples is 2, but it has 1 documents"):
        rows_of_shards(PackConfig(sequence_length=64, sources=(Take(source="a", samples=2),)), shards)


def test_a_text_longer_than_a_row_is_cut(tmp_path: Path) -> None:
    shards = {"a": write_source(tmp_path, "a", [text(23), text(4)])}
    config = PackConfig(sequence_length=10, sources=(Take(source="a"),))
    assert rows_of_shards(config, shards) == 3
