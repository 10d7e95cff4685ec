import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tokenization.corpus_rows import chat, document
from tokenization import packing
from tokenization.bestfit import best_fit
from tokenization.documents import read_documents
from tokenization.errors import BadInput
from tokenization.packing import PackConfig, Plan
from tokenization.selection import permutation
from tokenization.shards import Shard

LONG = "The cheese is on the table. " * 30


@pytest.fixture
def shards(tokenize_rows: Any, mixed_rows: Any) -> dict[str, Path]:
    """One shard of mixed documents and chats, and three of chats."""
    chats = [chat(f"chat{n}", "Which?", "cheese " * (n % 9 + 1)) for n in range(40)]
    return {
        "mixed/0": tokenize_rows(mixed_rows)[0],
        **{f"chats/{task}": folder for task, folder in enumerate(tokenize_rows(chats, 3, "chats"))},
    }


def pack(shards: dict[str, Path], out: Path, length: int = 128, seed: int = 0, **samples: int | None) -> Plan:
    sources = {key.rpartition("/")[0] for key in shards}
    taken = tuple((source, samples.get(source)) for source in sources)
    out.mkdir()
    packing.run(PackConfig(sequence_length=length, samples=taken, seed=seed), shards, out)
    return Plan(out)


def rows_of_ids(plan: Plan, shards: dict[str, Path]) -> list[list[tuple[str, int, int]]]:
    """Each row as (document id, start, length)."""
    ids = {key: [record.id for record in read_documents(folder)] for key, folder in shards.items()}
    return [
        [(ids[piece.shard][piece.document], piece.start, piece.length) for piece in plan.row(row)]
        for row in range(len(plan))
    ]


def ids_taken(plan: Plan, shards: dict[str, Path]) -> set[str]:
    return {name for row in rows_of_ids(plan, shards) for name, _, _ in row}


def manifest(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return value


def reference_best_fit(lengths: list[int], capacity: int) -> list[int]:
    """Rooms left, by trying every row for every piece."""
    rooms: list[int] = []
    for need in sorted(lengths, reverse=True):
        fitting = [index for index, room in enumerate(rooms) if room >= need]
        if fitting:
            rooms[min(fitting, key=lambda index: rooms[index])] -= need
        else:
            rooms.append(capacity - need)
    return sorted(rooms)


@pytest.mark.parametrize("seed", range(5))
def test_best_fit_is_exact(seed: int) -> None:
    lengths: NDArray[np.int32] = np.random.default_rng(seed).integers(1, 101, 500).astype(np.int32)
    filled = np.bincount(best_fit(lengths, 100), weights=lengths)
    assert sorted((100 - filled).tolist()) == reference_best_fit(lengths.tolist(), 100)


def test_best_fit_wastes_little() -> None:
    """Documents of about 1,000 tokens in rows of 4,096, as in midtraining."""
    lengths = np.random.default_rng(0).lognormal(6.6, 0.8, 20_000).clip(8, 4096).astype(np.int32)
    rows = best_fit(lengths, 4096).max() + 1
    assert 1 - lengths.sum() / (rows * 4096) < 0.002


def test_every_token_is_in_the_plan_once(shards: dict[str, Path], tmp_path: Path) -> None:
    plan = pack(shards, tmp_path / "plan", length=64)
    pieces = [piece for row in range(len(plan)) for piece in plan.row(row)]
    dropped = sum(source["dropped"] for source in manifest(tmp_path / "plan")["sources"].values())
    for key, folder in shards.items():
        shard = Shard(folder)
        kinds = [record.kind for record in read_documents(folder)]
        for index, length in enumerate(shard.lengths.tolist()):
            spans = sorted((p.start, p.length) for p in pieces if (p.shard, p.document) == (key, index))
            if kinds[index] == "chat" and length > 64:
                assert spans == []
                dropped -= 1
            else:
                starts = list(range(0, length, 64))
                assert spans == [(start, min(64, length - start)) for start in starts]
    assert dropped == 0


def test_rows_are_full_and_not_too_full(shards: dict[str, Path], tmp_path: Path) -> None:
    plan = pack(shards, tmp_path / "plan")
    told = manifest(tmp_path / "plan")
    tokens = [sum(piece.length for piece in plan.row(row)) for row in range(len(plan))]
    assert max(tokens) <= plan.sequence_length == 128
    assert (told["rows"], told["tokens"]) == (len(plan), sum(tokens))
    assert told["waste"] == pytest.approx(1 - sum(tokens) / (128 * len(plan)))
    trained = sum(
        int(Shard(shards[piece.shard]).loss_mask(piece.document)[piece.start : piece.start + piece.length].sum())
        for row in range(len(plan))
        for piece in plan.row(row)
    )
    assert told["trainable_tokens"] == trained


def test_long_texts_are_cut_and_long_chats_dropped(tokenize_rows: Any, tmp_path: Path) -> None:
    rows = [document("text", LONG), chat("long", "Hi", LONG), chat("short", "Hi", "Yo"), document("fits", "The.")]
    shards = {"all/0": tokenize_rows(rows)[0]}
    plan = pack(shards, tmp_path / "plan", length=64)
    told = manifest(tmp_path / "plan")
    assert told["sources"] == {"all": {"available": 4, "taken": 4, "split": 1, "dropped": 1}}
    assert ids_taken(plan, shards) == {"text", "short", "fits"}


def test_the_plan_knows_the_padding(shards: dict[str, Path], tmp_path: Path) -> None:
    plan = pack(shards, tmp_path / "plan")
    facts = manifest(shards["mixed/0"])["tokenizer"]
    assert (plan.pad_id, plan.eod_id) == (facts["pad_id"], facts["eod_id"])
    assert plan.pad_id != plan.eod_id
    assert manifest(tmp_path / "plan")["tokenizer"] == facts


def test_smaller_sets_are_part_of_larger_ones(shards: dict[str, Path], tmp_path: Path) -> None:
    sets = [ids_taken(pack(shards, tmp_path / f"{n}", 4096, mixed=10, chats=n), shards) for n in (5, 10, 20, 40)]
    assert [len(found) for found in sets] == [15, 20, 30, 50]
    assert sets[0] < sets[1] < sets[2] < sets[3]
    other = ids_taken(pack(shards, tmp_path / "other", 4096, seed=1, mixed=10, chats=5), shards)
    assert other != sets[0]


def test_the_sequence_length_does_not_change_what_is_taken(shards: dict[str, Path], tmp_path: Path) -> None:
    short, long = (pack(shards, tmp_path / f"{n}", n, mixed=20, chats=20) for n in (1024, 4096))
    assert ids_taken(short, shards) == ids_taken(long, shards)


@pytest.mark.parametrize("tasks", [3, 7])
def test_the_number_of_tokenise_tasks_changes_nothing(
    tokenize_rows: Any, mixed_rows: Any, tmp_path: Path, tasks: int
) -> None:
    one = {"mixed/0": tokenize_rows(mixed_rows)[0]}
    many = {f"mixed/{task}": folder for task, folder in enumerate(tokenize_rows(mixed_rows, tasks))}
    plans = [pack(shards, tmp_path / f"{len(shards)}", mixed=30) for shards in (one, many)]
    assert rows_of_ids(plans[0], one) == rows_of_ids(plans[1], many)


def test_shards_are_in_order_of_number(tokenize_rows: Any, mixed_rows: Any, tmp_path: Path) -> None:
    """``mixed/10`` comes after ``mixed/9``, not after ``mixed/1``."""
    shards = {f"mixed/{task}": folder for task, folder in enumerate(tokenize_rows(mixed_rows, 12))}
    assert pack(shards, tmp_path / "plan").shards == [f"mixed/{task}" for task in range(12)]


def test_a_plan_is_the_same_each_time(shards: dict[str, Path], tmp_path: Path) -> None:
    backwards = dict(reversed(shards.items()))
    pack(shards, tmp_path / "a")
    pack(backwards, tmp_path / "b")
    pack(shards, tmp_path / "c", seed=1)
    data = [(tmp_path / name / "plan.npz").read_bytes() for name in "abc"]
    assert data[0] == data[1] != data[2]


def test_a_permutation_is_pinned() -> None:
    """Another one would change which samples an experiment trains on."""
    assert permutation(8, 0, "documents of chats").tolist() == [1, 5, 7, 2, 6, 3, 0, 4]
    assert sorted(permutation(1000, 3, "x").tolist()) == list(range(1000))


def test_rows_are_not_in_order_of_length(shards: dict[str, Path], tmp_path: Path) -> None:
    plan = pack(shards, tmp_path / "plan", length=128)
    longest = [plan.row(row)[0].length for row in range(len(plan))]
    assert longest != sorted(longest, reverse=True)


def test_more_than_there_is_is_refused_with_both_numbers(shards: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"samples\.chats is 41, but the source has 40 documents"):
        pack(shards, tmp_path / "plan", chats=41)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"chats": "chats/0"}, "input 'chats': expected SOURCE/INDEX"),
        ({"chats/x": "chats/0"}, "input 'chats/x': expected SOURCE/INDEX"),
        ({"chats/01": "chats/0"}, "input 'chats/01': expected SOURCE/INDEX"),
        ({"chats/0": "chats/0", "chats/2": "chats/2"}, r"inputs of chats: indexes \[0, 2\]; number them 0 to 1"),
        ({"mixed/0": "mixed/0"}, r"samples names the sources \['chats'\], but the inputs are \['mixed'\]"),
    ],
)
def test_inputs_must_fit_the_samples(
    shards: dict[str, Path], tmp_path: Path, inputs: dict[str, str], message: str
) -> None:
    config = PackConfig(sequence_length=64, samples=(("chats", None),))
    with pytest.raises(BadInput, match=message):
        packing.run(config, {key: shards[value] for key, value in inputs.items()}, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequence_length": 1}, "sequence_length is 1"),
        ({"sequence_length": 2**20 + 1}, "sequence_length is 1048577: it must be at most 1048576"),
        ({"seed": -1}, "seed is -1"),
        ({"samples": (("chats", 0),)}, r"samples\.chats is 0"),
        ({"samples": (("chats", 1), ("chats", 2))}, "named twice"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"sequence_length": 64, "samples": (("chats", None),), **changes}
    with pytest.raises(BadInput, match=message):
        PackConfig(**values)


def test_shards_of_two_tokenizers_are_not_mixed(shards: dict[str, Path], tmp_path: Path) -> None:
    path = shards["chats/1"] / "manifest.json"
    path.write_text(path.read_text().replace('"tokenizer_sha256": "', '"tokenizer_sha256": "0'))
    with pytest.raises(BadInput, match="chats/1 and chats/0 were made with different tokenizers"):
        pack(shards, tmp_path / "plan")


def test_a_plan_must_hold_something(tokenize_rows: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to pack"):
        pack({"chats/0": tokenize_rows([chat("c", "Hi", LONG)])[0]}, tmp_path / "plan", length=16)


def test_a_shard_with_lines_missing_is_refused(shards: dict[str, Path], tmp_path: Path) -> None:
    path = shards["mixed/0"] / "documents.jsonl"
    path.write_bytes(path.read_bytes().partition(b"\n")[2])
    with pytest.raises(BadInput, match=r"documents\.jsonl has 59 lines for 60 documents"):
        pack(shards, tmp_path / "plan")


def test_a_damaged_or_missing_plan_is_refused(shards: dict[str, Path], tmp_path: Path) -> None:
    pack(shards, tmp_path / "plan")
    path = tmp_path / "plan" / "plan.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"plan\.npz: damaged"):
        Plan(tmp_path / "plan")
    with pytest.raises(BadInput, match=r"plan\.npz: no such file"):
        Plan(tmp_path)


@pytest.mark.parametrize("row", [-1, 10_000])
def test_a_row_that_is_not_there(shards: dict[str, Path], tmp_path: Path, row: int) -> None:
    with pytest.raises(IndexError):
        pack(shards, tmp_path / "plan").row(row)
