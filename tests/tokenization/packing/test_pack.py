import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import sha256_of
from tests.tokenization.packing.shard_folders import FACTS, Doc, chat, text, write_shard, write_source
from tokenization.documents import TokenizerFacts
from tokenization.manifest import check_files
from tokenization.packing.pack import PackConfig, PackInputs, run
from tokenization.packing.plan import Piece, Plan
from tokenization.packing.selection import Take

SENTENCE = "Which cheese do you like? I like Stilton. "
Rows = list[list[list[int]]]


def pack(
    shards: Mapping[str, Path],
    out: Path,
    *takes: Take,
    length: int = 64,
    tokenizer: Path | None = None,
    **settings: Any,
) -> Plan:
    """A plan of all sources that no ``takes`` names, and of those as they say."""
    out.mkdir()
    everything = (*takes, *(Take(source=source) for source in set(shards) - {take.source for take in takes}))
    inputs = PackInputs(shards=shards, tokenizer=tokenizer)
    run(PackConfig(sequence_length=length, sources=everything, **settings), inputs, out)
    return Plan(out)


def manifest(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return value


def contents(plan: Plan, sources: Mapping[str, Path]) -> Rows:
    """The tokens of each piece of each row."""
    shards = plan.open_shards(sources)
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
    inputs = {
        "a": write_source(tmp_path, "a", documents[:20]),
        "b": write_source(tmp_path, "b", documents[20:], tasks=3),
    }
    rows = contents(pack(inputs, tmp_path / "plan"), inputs)
    assert sorted(piece for row in rows for piece in row) == sorted(list(doc.tokens) for doc in documents)
    assert max(sum(map(len, row)) for row in rows) <= 64


def test_what_the_manifest_says(tmp_path: Path) -> None:
    documents = [*mixed(30), chat(65), chat(64)]
    inputs = {"s": write_source(tmp_path, "s", documents)}
    plan, recorded = pack(inputs, tmp_path / "plan"), manifest(tmp_path / "plan")
    tokens = sum(len(doc.tokens) for doc in documents) - 65
    assert (recorded["rows"], recorded["tokens"], plan.total_tokens) == (len(plan), tokens, tokens)
    assert recorded["waste"] == pytest.approx(1 - tokens / (64 * len(plan)))
    assert recorded["trainable_tokens"] == sum(sum(doc.mask) for doc in documents) - sum(chat(65).mask)
    [shard] = recorded["shards"]
    assert (shard["key"], shard["documents"]) == ("s/0", 32)
    assert recorded["sources"]["s"] == {
        "rows": 32,
        "rejected": {},
        "turns": "as_printed",
        "asked": {"source": "s", "samples": None, "tokens": None, "weight": None, "without": []},
        "budget": None,
        "available": {"documents": 32, "tokens": tokens + 65},
        "dropped": {"documents": 1, "tokens": 65},
        "taken": {"documents": 31, "tokens": tokens},
        "trainable_tokens": recorded["trainable_tokens"],
        "split": 0,
        "cut_at_budget": None,
    }
    assert recorded["tokenizer"] == dataclasses.asdict(FACTS)
    assert check_files(tmp_path / "plan") == 2


def test_the_plan_knows_the_padding(tmp_path: Path) -> None:
    plan = pack({"s": write_source(tmp_path, "s", mixed())}, tmp_path / "plan")
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
        inputs = {"s": write_source(tmp_path, "s", documents, count, facts)}
        plan = pack(inputs, tmp_path / f"plan{count}", Take(source="s", tokens=1500), tokenizer=folder)
        rows.append(contents(plan, inputs))
    assert rows[0] == rows[1]


def test_a_plan_is_the_same_each_time(tmp_path: Path) -> None:
    inputs = {"b": write_source(tmp_path, "b", mixed(20)), "a": write_source(tmp_path, "a", mixed(40), tasks=2)}
    pack(inputs, tmp_path / "first")
    pack(dict(reversed(inputs.items())), tmp_path / "again")
    pack(inputs, tmp_path / "other", seed=1)
    data = [(tmp_path / name / "pieces.npy").read_bytes() for name in ("first", "again", "other")]
    assert data[0] == data[1] != data[2]


def test_rows_are_not_in_order_of_length(tmp_path: Path) -> None:
    plan = pack({"s": write_source(tmp_path, "s", mixed())}, tmp_path / "plan")
    longest = [plan.row(row)[0].length for row in range(len(plan))]
    assert longest != sorted(longest, reverse=True)


def test_many_rows_are_written_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"s": write_source(tmp_path, "s", mixed())}
    pack(inputs, tmp_path / "whole")
    monkeypatch.setattr("tokenization.packing.plan._ROWS_AT_ONCE", 3)
    pack(inputs, tmp_path / "parts")
    assert (tmp_path / "whole/pieces.npy").read_bytes() == (tmp_path / "parts/pieces.npy").read_bytes()


def test_long_texts_are_cut_between_sentences_and_long_chats_dropped(
    tmp_path: Path, facts_and_tokenizer: tuple[TokenizerFacts, Path, Tokenizer]
) -> None:
    facts, folder, tokenizer = facts_and_tokenizer
    long = Doc([*tokenizer.encode(SENTENCE * 20).ids, 0])
    inputs = {"s": write_source(tmp_path, "s", [text(9), chat(65), long, chat(7)], tasks=2, facts=facts)}
    plan = pack(inputs, tmp_path / "plan", tokenizer=folder)
    recorded = manifest(tmp_path / "plan")["sources"]["s"]
    assert (recorded["split"], recorded["dropped"]["documents"], recorded["taken"]["documents"]) == (1, 1, 3)
    pieces = sorted(
        (piece for row in range(len(plan)) for piece in plan.row(row) if (piece.shard, piece.document) == ("s/1", 0)),
        key=lambda piece: piece.start,
    )
    parts = [list(long.tokens)[piece.start : piece.start + piece.length] for piece in pieces]
    assert [token for part in parts for token in part] == list(long.tokens)
    assert all(tokenizer.decode(part).endswith(("like?", "Stilton.")) for part in parts[:-1])


def test_smaller_sets_are_part_of_larger_ones(tmp_path: Path) -> None:
    inputs = {"s": write_source(tmp_path, "s", mixed())}
    sets = []
    for take in ({"samples": 5}, {"samples": 10}, {"samples": 60}, {"tokens": 100}, {"tokens": 300}):
        name = "-".join(f"{key}{value}" for key, value in take.items())
        plan = pack(inputs, tmp_path / name, Take(source="s", **take), length=1000)
        sets.append({piece.document for row in range(len(plan)) for piece in plan.row(row)})
    assert [len(found) for found in sets[:3]] == [5, 10, 60]
    assert sets[0] < sets[1] < sets[2]
    assert sets[3] < sets[4] < sets[2]


def test_a_token_budget_is_met_exactly_and_recorded(tmp_path: Path) -> None:
    inputs = {"s": write_source(tmp_path, "s", [text(10, first=10 + place) for place in range(30)], tasks=3)}
    plan = pack(inputs, tmp_path / "plan", Take(source="s", tokens=123))
    recorded = manifest(tmp_path / "plan")["sources"]["s"]
    assert plan.total_tokens == recorded["budget"] == recorded["taken"]["tokens"] == recorded["trainable_tokens"] == 123
    cut = Piece(**recorded["cut_at_budget"])
    assert (cut.start, cut.length) == (0, 3)
    assert [piece for row in range(len(plan)) for piece in plan.row(row) if piece.length == 3] == [cut]


def test_sources_are_mixed_by_weight(tmp_path: Path) -> None:
    texts = [text(10) for _ in range(100)]
    inputs = {name: write_source(tmp_path, name, texts) for name in "abc"}
    takes = [Take(source="a", weight=0.5), Take(source="b", weight=0.25), Take(source="c", samples=2)]
    pack(inputs, tmp_path / "plan", *takes, tokens=700)
    recorded = manifest(tmp_path / "plan")["sources"]
    assert {name: recorded[name]["taken"]["tokens"] for name in "abc"} == {"a": 467, "b": 233, "c": 20}
    assert recorded["a"]["asked"]["weight"] == 0.5


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
    with pytest.raises(UserError, match=message):
        PackConfig(**values)


def test_inputs_must_be_of_the_sources(tmp_path: Path) -> None:
    inputs = PackInputs(shards={"mixed": write_source(tmp_path, "mixed", mixed(3))})
    with pytest.raises(UserError, match=r"sources names \['chats'\], but the inputs are of the sources \['mixed'\]"):
        run(PackConfig(sequence_length=64, sources=(Take(source="chats"),)), inputs, tmp_path)


def test_shards_of_two_tokenizers_are_not_mixed(tmp_path: Path) -> None:
    other = dataclasses.replace(FACTS, tokenizer_sha256="of another")
    write_shard(tmp_path / "s" / "0", mixed(3))
    write_shard(tmp_path / "s" / "1", mixed(3), other)
    with pytest.raises(UserError, match="s/1 and s/0 were made with different tokenizers"):
        pack({"s": tmp_path / "s"}, tmp_path / "plan")


@pytest.mark.parametrize("documents", [[], [chat(65)]])
def test_a_plan_must_hold_something(tmp_path: Path, documents: Sequence[Doc]) -> None:
    with pytest.raises(UserError, match="nothing to pack"):
        pack({"s": write_source(tmp_path, "s", documents)}, tmp_path / "plan")


def test_a_source_that_is_dropped_whole_is_an_error(tmp_path: Path) -> None:
    inputs = {
        "texts": write_source(tmp_path, "texts", [text(9)]),
        "chats": write_source(tmp_path, "chats", [chat(65), chat(70)]),
    }
    with pytest.raises(UserError, match="source chats: nothing to pack: 2 documents, 2 of them chats longer than"):
        pack(inputs, tmp_path / "plan")


def test_a_text_is_not_cut_without_its_tokenizer(
    tmp_path: Path, facts_and_tokenizer: tuple[TokenizerFacts, Path, Tokenizer]
) -> None:
    inputs = {"s": write_source(tmp_path, "s", [text(65)])}
    with pytest.raises(UserError, match=r"a text has 65 tokens, .* give the tokenizer of the shards"):
        pack(inputs, tmp_path / "without")
    _, folder, _ = facts_and_tokenizer
    with pytest.raises(UserError, match=r"tokenizer\.json: not the tokenizer that the shards were made with"):
        pack(inputs, tmp_path / "another", tokenizer=folder)


@pytest.mark.parametrize("name", ["pieces.npy", "rows.npy"])
def test_a_damaged_or_missing_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    pack({"s": write_source(tmp_path, "s", mixed())}, tmp_path / "plan")
    path = tmp_path / "plan" / name
    data = path.read_bytes()
    for damaged in (data[:-100], data[:50], b"", b"x" * len(data), data.replace(b"<i", b"<f")):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{name}: damaged"):
            Plan(tmp_path / "plan")
    path.unlink()
    with pytest.raises(UserError, match=rf"{name}: no such file"):
        Plan(tmp_path / "plan")


def test_files_of_two_plans_are_not_mixed(tmp_path: Path) -> None:
    for name, count in (("a", 60), ("b", 30)):
        pack({"s": write_source(tmp_path / name, "s", mixed(count))}, tmp_path / name / "plan")
    (tmp_path / "b/plan/rows.npy").write_bytes((tmp_path / "a/plan/rows.npy").read_bytes())
    with pytest.raises(UserError, match=r"pieces\.npy: not of the rows\.npy beside it"):
        Plan(tmp_path / "b/plan")


def test_a_shard_is_no_plan(tmp_path: Path) -> None:
    inputs = {"s": write_source(tmp_path, "s", mixed())}
    pack(inputs, tmp_path / "plan")
    (tmp_path / "plan/manifest.json").write_bytes((inputs["s"] / "0/manifest.json").read_bytes())
    with pytest.raises(UserError, match="its manifest is not a plan's"):
        Plan(tmp_path / "plan")


@pytest.mark.parametrize("row", [-1, 10_000])
def test_a_row_that_is_not_there(tmp_path: Path, row: int) -> None:
    plan = pack({"s": write_source(tmp_path, "s", mixed())}, tmp_path / "plan")
    with pytest.raises(IndexError):
        plan.row(row)


def test_a_plan_wants_all_shards_of_a_source_and_no_others(tmp_path: Path) -> None:
    inputs = {"s": write_source(tmp_path, "s", mixed(), tasks=2)}
    plan = pack(inputs, tmp_path / "plan")
    assert list(plan.open_shards(inputs)) == list(plan.folders(inputs)) == ["s/0", "s/1"]
    shutil.copytree(inputs["s"] / "1", inputs["s"] / "2")
    with pytest.raises(UserError, match="was packed without s/2; give what it was packed from"):
        plan.open_shards(inputs)
    with pytest.raises(UserError, match="its rows hold documents of s/0, s/1; give these shards too"):
        plan.open_shards({"other": inputs["s"]})
