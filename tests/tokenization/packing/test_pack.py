import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tests.tokenization.packing.shard_folders import FACTS, Doc, chat, text, write_shard, write_source
from tokenization.documents import TokenizerFacts
from tokenization.errors import BadInput
from tokenization.manifest import check_files, sha256_of
from tokenization.packing.pack import PackConfig, run
from tokenization.packing.plan import Piece, Plan
from tokenization.packing.selection import Take
from tokenization.shards import Shard

SENTENCE = "Which cheese do you like? I like Stilton. "
Rows = list[list[list[int]]]


def pack(inputs: Mapping[str, Path], out: Path, *takes: Take, length: int = 64, **settings: Any) -> Plan:
    """A plan of all sources that no ``takes`` names, and of those as they say."""
    sources = {key.rpartition("/")[0] for key in inputs if "/" in key} - {take.source for take in takes}
    out.mkdir()
    everything = (*takes, *(Take(source=source) for source in sources))
    run(PackConfig(sequence_length=length, sources=everything, **settings), inputs, out)
    return Plan(out)


def manifest(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return value


def contents(plan: Plan, inputs: Mapping[str, Path]) -> Rows:
    """The tokens of each piece of each row."""
    shards = {key: Shard(inputs[key]) for key in plan.shards}
    return [
        [
            shards[piece.shard].tokens(piece.document)[piece.start : piece.start + piece.length].tolist()
            for piece in plan.row(row)
        ]
        for row in range(len(plan))
    ]


def mixed(count: int = 60) -> list[Doc]:
    """Texts and chats of 2 to 61 tokens, no two alike."""
    return [(chat if place % 3 == 0 else text)(place * 7 % 60 + 2, first=10 + place) for place in range(count)]


@pytest.fixture
def facts_and_tokenizer(make_tokenizer: Callable[[], Path]) -> tuple[TokenizerFacts, Path, Tokenizer]:
    folder = make_tokenizer()
    facts = dataclasses.replace(FACTS, tokenizer_sha256=sha256_of(folder / "tokenizer.json"))
    return facts, folder, Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_every_token_is_in_the_plan_once(tmp_path: Path) -> None:
    documents = mixed()
    inputs = write_source(tmp_path, "a", documents[:20]) | write_source(tmp_path, "b", documents[20:], tasks=3)
    rows = contents(pack(inputs, tmp_path / "plan"), inputs)
    assert sorted(piece for row in rows for piece in row) == sorted(list(doc.tokens) for doc in documents)
    assert max(sum(map(len, row)) for row in rows) <= 64


def test_what_the_manifest_says(tmp_path: Path) -> None:
    documents = [*mixed(30), chat(65), chat(64)]
    inputs = write_source(tmp_path, "s", documents)
    plan, told = pack(inputs, tmp_path / "plan"), manifest(tmp_path / "plan")
    tokens = sum(len(doc.tokens) for doc in documents) - 65
    assert (told["rows"], told["tokens"], plan.total_tokens) == (len(plan), tokens, tokens)
    assert told["waste"] == pytest.approx(1 - tokens / (64 * len(plan)))
    assert told["trainable_tokens"] == sum(sum(doc.mask) for doc in documents) - sum(chat(65).mask)
    [shard] = told["shards"]
    assert (shard["key"], shard["documents"]) == ("s/0", 32)
    assert told["sources"]["s"] == {
        "asked": {"source": "s", "samples": None, "tokens": None, "weight": None},
        "budget": None,
        "available": {"documents": 32, "tokens": tokens + 65},
        "dropped": {"documents": 1, "tokens": 65},
        "taken": {"documents": 31, "tokens": tokens},
        "trainable_tokens": told["trainable_tokens"],
        "split": 0,
        "cut_at_budget": None,
    }
    assert told["tokenizer"] == dataclasses.asdict(FACTS)
    assert check_files(tmp_path / "plan") == 2


def test_the_plan_knows_the_padding(tmp_path: Path) -> None:
    plan = pack(write_source(tmp_path, "s", mixed()), tmp_path / "plan")
    assert (plan.sequence_length, plan.pad_id, plan.eod_id) == (64, FACTS.pad_id, FACTS.eod_id)
    assert plan.pad_id != plan.eod_id


@pytest.mark.parametrize("tasks", [3, 7])
def test_the_number_of_tokenise_tasks_changes_nothing(
    tmp_path: Path, facts_and_tokenizer: tuple[TokenizerFacts, Path, Tokenizer], tasks: int
) -> None:
    facts, folder, tokenizer = facts_and_tokenizer
    long = Doc([*tokenizer.encode(SENTENCE * 40).ids, 0])
    documents = [*mixed(30), long, *mixed(30), chat(80)]
    rows = []
    for count in (1, tasks):
        inputs = {**write_source(tmp_path, "s", documents, count, facts), "tokenizer": folder}
        plan = pack(inputs, tmp_path / f"plan{count}", Take(source="s", tokens=1500))
        rows.append(contents(plan, inputs))
    assert rows[0] == rows[1]


def test_a_plan_is_the_same_each_time(tmp_path: Path) -> None:
    inputs = write_source(tmp_path, "b", mixed(20)) | write_source(tmp_path, "a", mixed(40), tasks=2)
    pack(inputs, tmp_path / "first")
    pack(dict(reversed(inputs.items())), tmp_path / "again")
    pack(inputs, tmp_path / "other", seed=1)
    data = [(tmp_path / name / "pieces.npy").read_bytes() for name in ("first", "again", "other")]
    assert data[0] == data[1] != data[2]


def test_rows_are_not_in_order_of_length(tmp_path: Path) -> None:
    plan = pack(write_source(tmp_path, "s", mixed()), tmp_path / "plan")
    longest = [plan.row(row)[0].length for row in range(len(plan))]
    assert longest != sorted(longest, reverse=True)


def test_many_rows_are_written_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = write_source(tmp_path, "s", mixed())
    pack(inputs, tmp_path / "whole")
    monkeypatch.setattr("tokenization.packing.plan._ROWS_AT_ONCE", 3)
    pack(inputs, tmp_path / "parts")
    assert (tmp_path / "whole/pieces.npy").read_bytes() == (tmp_path / "parts/pieces.npy").read_bytes()


def test_long_texts_are_cut_between_sentences_and_long_chats_dropped(
    tmp_path: Path, facts_and_tokenizer: tuple[TokenizerFacts, Path, Tokenizer]
) -> None:
    facts, folder, tokenizer = facts_and_tokenizer
    long = Doc([*tokenizer.encode(SENTENCE * 20).ids, 0])
    inputs = {
        **write_source(tmp_path, "s", [text(9), chat(65), long, chat(7)], tasks=2, facts=facts),
        "tokenizer": folder,
    }
    plan = pack(inputs, tmp_path / "plan")
    told = manifest(tmp_path / "plan")["sources"]["s"]
    assert (told["split"], told["dropped"]["documents"], told["taken"]["documents"]) == (1, 1, 3)
    pieces = sorted(
        (piece for row in range(len(plan)) for piece in plan.row(row) if (piece.shard, piece.document) == ("s/1", 0)),
        key=lambda piece: piece.start,
    )
    parts = [list(long.tokens)[piece.start : piece.start + piece.length] for piece in pieces]
    assert [token for part in parts for token in part] == list(long.tokens)
    assert all(tokenizer.decode(part).endswith(("like?", "Stilton.")) for part in parts[:-1])


def test_smaller_sets_are_part_of_larger_ones(tmp_path: Path) -> None:
    inputs = write_source(tmp_path, "s", mixed())
    sets = []
    for take in ({"samples": 5}, {"samples": 10}, {"samples": 60}, {"tokens": 100}, {"tokens": 300}):
        name = "-".join(f"{key}{value}" for key, value in take.items())
        plan = pack(inputs, tmp_path / name, Take(source="s", **take), length=1000)
        sets.append({piece.document for row in range(len(plan)) for piece in plan.row(row)})
    assert [len(found) for found in sets[:3]] == [5, 10, 60]
    assert sets[0] < sets[1] < sets[2]
    assert sets[3] < sets[4] < sets[2]


def test_a_token_budget_is_met_exactly_and_told(tmp_path: Path) -> None:
    inputs = write_source(tmp_path, "s", [text(10, first=10 + place) for place in range(30)], tasks=3)
    plan = pack(inputs, tmp_path / "plan", Take(source="s", tokens=123))
    told = manifest(tmp_path / "plan")["sources"]["s"]
    assert plan.total_tokens == told["budget"] == told["taken"]["tokens"] == told["trainable_tokens"] == 123
    cut = Piece(**told["cut_at_budget"])
    assert (cut.start, cut.length) == (0, 3)
    assert [piece for row in range(len(plan)) for piece in plan.row(row) if piece.length == 3] == [cut]


def test_sources_are_mixed_by_weight(tmp_path: Path) -> None:
    texts = [text(10) for _ in range(100)]
    inputs = {key: path for name in "abc" for key, path in write_source(tmp_path, name, texts).items()}
    takes = [Take(source="a", weight=0.5), Take(source="b", weight=0.25), Take(source="c", samples=2)]
    pack(inputs, tmp_path / "plan", *takes, tokens=700)
    told = manifest(tmp_path / "plan")["sources"]
    assert {name: told[name]["taken"]["tokens"] for name in "abc"} == {"a": 467, "b": 233, "c": 20}
    assert told["a"]["asked"]["weight"] == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequence_length": 1}, "sequence_length is 1: it must be at least 2"),
        ({"sequence_length": 2**20 + 1}, "sequence_length is 1048577: .* at most 1048576"),
        ({"seed": -1}, "seed is -1"),
        ({"tokens": 0}, "tokens is 0"),
        ({"sources": (Take(source="s"), Take(source="s", samples=1))}, "named twice"),
        ({"sources": (Take(source="s", weight=1),)}, r"sources \['s'\] have weights: give the number of tokens"),
        ({"tokens": 5}, "tokens is 5, but no source has a weight"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"sequence_length": 64, "sources": (Take(source="s"),), **changes}
    with pytest.raises(BadInput, match=message):
        PackConfig(**values)


def test_inputs_must_be_of_the_sources(tmp_path: Path) -> None:
    inputs = write_source(tmp_path, "mixed", mixed(3))
    with pytest.raises(BadInput, match=r"sources names \['chats'\], but the inputs are of the sources \['mixed'\]"):
        run(PackConfig(sequence_length=64, sources=(Take(source="chats"),)), inputs, tmp_path)


def test_shards_of_two_tokenizers_are_not_mixed(tmp_path: Path) -> None:
    other = dataclasses.replace(FACTS, tokenizer_sha256="of another")
    inputs = {"s/0": write_shard(tmp_path / "0", mixed(3)), "s/1": write_shard(tmp_path / "1", mixed(3), other)}
    with pytest.raises(BadInput, match="s/1 and s/0 were made with different tokenizers"):
        pack(inputs, tmp_path / "plan")


@pytest.mark.parametrize("documents", [[], [chat(65)]])
def test_a_plan_must_hold_something(tmp_path: Path, documents: Sequence[Doc]) -> None:
    with pytest.raises(BadInput, match="nothing to pack"):
        pack(write_source(tmp_path, "s", documents), tmp_path / "plan")


def test_a_source_that_is_dropped_whole_is_an_error(tmp_path: Path) -> None:
    inputs = write_source(tmp_path, "texts", [text(9)]) | write_source(tmp_path, "chats", [chat(65), chat(70)])
    with pytest.raises(BadInput, match="source chats: nothing to pack: 2 documents, 2 of them chats longer than"):
        pack(inputs, tmp_path / "plan")


def test_a_text_is_not_cut_without_its_tokenizer(
    tmp_path: Path, facts_and_tokenizer: tuple[TokenizerFacts, Path, Tokenizer]
) -> None:
    inputs = write_source(tmp_path, "s", [text(65)])
    with pytest.raises(BadInput, match=r"a text has 65 tokens, .* give the tokenizer of the shards"):
        pack(inputs, tmp_path / "without")
    _, folder, _ = facts_and_tokenizer
    with pytest.raises(BadInput, match=r"tokenizer\.json: not the tokenizer that the shards were made with"):
        pack({**inputs, "tokenizer": folder}, tmp_path / "another")


@pytest.mark.parametrize("name", ["pieces.npy", "rows.npy"])
def test_a_damaged_or_missing_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    pack(write_source(tmp_path, "s", mixed()), tmp_path / "plan")
    path = tmp_path / "plan" / name
    data = path.read_bytes()
    for damaged in (data[:-100], data[:50], b"", b"x" * len(data), data.replace(b"<i", b"<f")):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match=rf"{name}: damaged"):
            Plan(tmp_path / "plan")
    path.unlink()
    with pytest.raises(BadInput, match=rf"{name}: no such file"):
        Plan(tmp_path / "plan")


def test_files_of_two_plans_are_not_mixed(tmp_path: Path) -> None:
    for name, count in (("a", 60), ("b", 30)):
        pack(write_source(tmp_path / name, "s", mixed(count)), tmp_path / name / "plan")
    (tmp_path / "b/plan/rows.npy").write_bytes((tmp_path / "a/plan/rows.npy").read_bytes())
    with pytest.raises(BadInput, match=r"pieces\.npy: not of the rows\.npy beside it"):
        Plan(tmp_path / "b/plan")


def test_a_shard_is_no_plan(tmp_path: Path) -> None:
    inputs = write_source(tmp_path, "s", mixed())
    pack(inputs, tmp_path / "plan")
    (tmp_path / "plan/manifest.json").write_bytes((inputs["s/0"] / "manifest.json").read_bytes())
    with pytest.raises(BadInput, match="its manifest is not a plan's"):
        Plan(tmp_path / "plan")


@pytest.mark.parametrize("row", [-1, 10_000])
def test_a_row_that_is_not_there(tmp_path: Path, row: int) -> None:
    plan = pack(write_source(tmp_path, "s", mixed()), tmp_path / "plan")
    with pytest.raises(IndexError):
        plan.row(row)
