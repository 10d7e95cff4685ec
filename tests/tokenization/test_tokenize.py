import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msm_hpc.base.errors import UserError
from tests.tokenization.chats.chat_templates import QWEN3
from tests.tokenization.conftest import CHATML
from tests.tokenization.corpus_rows import chat, document
from tokenization import tokenize
from tokenization.documents import DocumentRecord, TurnsTrained, read_documents
from tokenization.encoded import Ragged
from tokenization.engines import choice
from tokenization.engines.fast import FastEngine
from tokenization.reading import lines
from tokenization.shards import Shard
from tokenization.tokenize import TokenizeConfig, TokenizeInputs
from tokenization.tokenizer import TokenizerFolder
from tokenization.verify import verify


def content(folders: list[Path]) -> list[tuple[DocumentRecord, list[int], list[int]]]:
    """Record, tokens and mask of every document, over all folders in order."""
    found = []
    for folder in folders:
        shard = Shard(folder)
        for index, record in enumerate(read_documents(folder)):
            found.append((record, shard.tokens(index).tolist(), shard.loss_mask(index).tolist()))
    return found


def manifest(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return value


@pytest.mark.parametrize("tasks", [3, 7, 100])
def test_the_number_of_tasks_changes_nothing(tokenize_rows: Any, mixed_rows: Any, tasks: int) -> None:
    whole = content(tokenize_rows(mixed_rows))
    assert [record.id for record, *_ in whole] == [row["id"] for row in mixed_rows]
    assert content(tokenize_rows(mixed_rows, tasks)) == whole


def test_small_batches_change_nothing(tokenize_rows: Any, mixed_rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = content(tokenize_rows(mixed_rows))
    monkeypatch.setattr(lines, "BATCH_BYTES", 100)
    assert content(tokenize_rows(mixed_rows, name="again")) == whole


def test_the_same_input_gives_the_same_bytes(tokenize_rows: Any, mixed_rows: Any) -> None:
    [first], [second] = tokenize_rows(mixed_rows), tokenize_rows(mixed_rows, name="again")
    names = sorted(path.name for path in first.iterdir())
    assert names == ["documents.jsonl", "manifest.json", "shard.bin", "shard.chats", "shard.idx", "shard.mask"]
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_the_manifest_says_what_was_made_from_what(tokenize_rows: Any, tmp_path: Path) -> None:
    rows = [{**document("d", "The cheese."), "value": "thrift"}, chat("c", "Hi", "Yo"), chat("e", "Hi", "Yo")]
    [folder] = tokenize_rows(rows)
    recorded, shard = manifest(folder), Shard(folder)
    assert (recorded["documents"], recorded["chats"]) == (1, 2)
    assert recorded["tokens"] == shard.lengths.sum()
    assert recorded["trainable_tokens"] == shard.trainable().sum() < recorded["tokens"]
    data = (tmp_path / "data.jsonl").read_bytes()
    path, sha256 = str(tmp_path / "data.jsonl"), hashlib.sha256(data).hexdigest()
    assert recorded["corpus"] == [{"path": path, "begin": 0, "end": len(data), "sha256": sha256}]
    assert recorded["engine"]["name"].startswith("tokenizers ")
    for name, record in recorded["files"].items():
        data = (folder / name).read_bytes()
        assert record == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    assert [record.provenance for record in read_documents(folder)] == [{"value": "thrift"}, {}, {}]


def test_documents_alone_need_no_mask_file(tokenize_rows: Any) -> None:
    [folder] = tokenize_rows([document("d", "The cheese.")])
    assert not (folder / "shard.mask").exists()
    assert "shard.mask" not in manifest(folder)["files"]


def test_every_document_ends_with_eod_and_only_there(tokenize_rows: Any, mixed_rows: Any) -> None:
    [folder] = tokenize_rows(mixed_rows)
    shard, eod_id = Shard(folder), manifest(folder)["tokenizer"]["eod_id"]
    ends = [np.flatnonzero(shard.tokens(index) == eod_id).tolist() for index in range(len(shard))]
    assert ends == [[length - 1] for length in shard.lengths]


def test_a_corpus_folder_is_taken_too(make_tokenizer: Any, write_corpus: Any, tmp_path: Path) -> None:
    folder, out = tmp_path / "corpus", tmp_path / "out"
    for made in (folder, out):
        made.mkdir()
    write_corpus([document("d", "The cheese.")]).rename(folder / "data.jsonl")
    tokenize.run(TokenizeConfig(), TokenizeInputs(corpus=folder, tokenizer=make_tokenizer()), out)
    assert len(Shard(out)) == 1


def test_rows_of_another_format_are_tokenised_as_chats(make_tokenizer: Any, write_corpus: Any, tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "Which cheese?"}, {"from": "gpt", "value": "Stilton."}]
    inputs = TokenizeInputs(corpus=write_corpus([{"talk": talk}]), tokenizer=make_tokenizer())
    (tmp_path / "out").mkdir()
    tokenize.run(TokenizeConfig(format="sharegpt", columns={"conversations": "talk"}), inputs, tmp_path / "out")
    assert manifest(tmp_path / "out")["chats"] == 1
    with pytest.raises(UserError, match="read such rows with --format sharegpt --column conversations=talk"):
        tokenize.run(TokenizeConfig(), inputs, tmp_path / "out")


@pytest.mark.parametrize(("data", "message"), [(None, "no such file"), ("", "empty")])
def test_a_corpus_must_have_rows(make_tokenizer: Any, tmp_path: Path, data: str | None, message: str) -> None:
    path = tmp_path / "data.jsonl"
    if data is not None:
        path.write_text(data)
    with pytest.raises(UserError, match=rf"data\.jsonl: {message}"):
        tokenize.run(TokenizeConfig(), TokenizeInputs(corpus=path, tokenizer=make_tokenizer()), tmp_path)


@pytest.mark.parametrize(("task", "tasks"), [(-1, 1), (3, 3)])
def test_a_task_must_be_one_of_the_tasks(task: int, tasks: int) -> None:
    with pytest.raises(UserError, match=f"task is {task} of {tasks}: it must be 0 to {tasks - 1}"):
        TokenizeConfig(task=task, tasks=tasks)


@pytest.mark.parametrize("tasks", [0, -1])
def test_there_is_at_least_one_task(tasks: int) -> None:
    with pytest.raises(UserError, match=f"tasks is {tasks}: it must be at least 1"):
        TokenizeConfig(tasks=tasks)


def test_a_task_does_not_load_heavy_packages() -> None:
    """They take seconds, in each of thousands of array tasks."""
    code = "import sys, tokenization.__main__, tokenization.tokenize; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "tokenizers" in modules
    assert {"torch", "megatron", "transformers", "pydantic"}.isdisjoint(modules)
    ours = {name for name in modules if name.startswith("msm_hpc.")}
    assert ours == {"msm_hpc.base", "msm_hpc.base.errors", "msm_hpc.base.files"}


def test_a_fault_of_the_fast_engine_in_mid_corpus_starts_again_with_the_reference(
    make_tokenizer: Any, write_corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written before is written over; rows that were skipped are listed once."""
    rows = [document(f"d{number}", f"Cheese number {number}.") for number in range(3_000)]
    corpus = write_corpus([{"text": " "}, *rows])
    inputs = TokenizeInputs(corpus=corpus, tokenizer=make_tokenizer())
    config = TokenizeConfig(on_bad="skip")

    def tokenised(name: str) -> Path:
        (tmp_path / name).mkdir()
        tokenize.run(config, inputs, tmp_path / name)
        return tmp_path / name

    right = tokenised("reference")
    right_encode, calls = FastEngine.encode, itertools.count()
    monkeypatch.setattr(choice, "WORTH_LOADING", 0)
    monkeypatch.setattr(lines, "BATCH_BYTES", 20_000)

    def wrong_later(self: FastEngine, texts: Sequence[str], end: int | None = None) -> Ragged:
        encoded = right_encode(self, texts, end)
        return Ragged(encoded.ids ^ np.int32(next(calls) > 4), encoded.offsets)

    monkeypatch.setattr(FastEngine, "encode", wrong_later)
    again = tokenised("again")
    assert "differs from tokenizers" in manifest(again)["engine"]["why_not_fast"]
    assert content([again]) == content([right])
    assert (again / "rejected.jsonl").read_bytes() == (right / "rejected.jsonl").read_bytes()


TALK = [
    ("user", "Hi"),
    ("assistant", "<think>\nhm\n</think>\n\nYo"),
    ("user", "Why?"),
    ("assistant", "<think>\nso\n</think>\n\nSo"),
    ("user", "And?"),
]


def test_each_turn_may_be_trained_by_its_prefix(make_tokenizer: Any, write_corpus: Any, tmp_path: Path) -> None:
    """Qwen3's template drops the thoughts of earlier turns, and prints an empty one before the last."""
    messages = [{"role": role, "content": content} for role, content in TALK]
    corpus = write_corpus([{"id": "c", "messages": messages, "value": 1}, chat("one", "Hi", "Yo"), document("d", "x")])
    inputs = TokenizeInputs(corpus=corpus, tokenizer=make_tokenizer(chat_template=QWEN3))
    made: dict[TurnsTrained, Path] = {"as_printed": tmp_path / "a", "each_by_its_prefix": tmp_path / "e"}
    for turns, folder in made.items():
        folder.mkdir()
        tokenize.run(TokenizeConfig(turns=turns, on_bad="skip"), inputs, folder)
    decode = TokenizerFolder(inputs.tokenizer).decode
    targets = [
        (record.id, record.provenance, decode(np.array(ids)[np.array(mask) == 1]).removesuffix("<|endoftext|>"))
        for record, ids, mask in content([made["each_by_its_prefix"]])
    ]
    assert targets == [
        ("c#0", {"value": 1}, "<think>\nhm\n</think>\n\nYo<|im_end|>"),
        ("c#1", {"value": 1}, "<think>\nso\n</think>\n\nSo<|im_end|>"),
        ("one", {}, "<think>\n\n</think>\n\nYo<|im_end|>"),
        ("d", {}, "x"),
    ]
    assert "hm" not in decode(np.array(content([made["each_by_its_prefix"]])[1][1]))
    found = manifest(made["each_by_its_prefix"])
    assert (found["turns"], found["assistant_turns"], found["trained_turns"]) == ("each_by_its_prefix", 3, 3)
    found = manifest(made["as_printed"])
    assert (found["assistant_turns"], found["trained_turns"], found["rejected"]) == (1, 1, {"untrainable": 1})
    assert verify([made["each_by_its_prefix"]]).corpora[0].documents == 4


def test_a_chat_without_an_assistant_is_rejected_whatever_is_trained(make_tokenizer: Any, write_corpus: Any) -> None:
    inputs = TokenizeInputs(
        corpus=write_corpus([{"messages": [{"role": "user", "content": "Hi"}]}]), tokenizer=make_tokenizer()
    )
    with pytest.raises(UserError, match=r"no token of chat .* is a training target"):
        tokenize.run(TokenizeConfig(turns="each_by_its_prefix"), inputs, inputs.tokenizer)


def test_a_chat_with_several_turns_that_cannot_be_used_is_one_row(
    make_tokenizer: Any, write_corpus: Any, tmp_path: Path
) -> None:
    refuses = "{% for turn in messages if 'bad' in turn.content %}{{ raise_exception('Bad') }}{% endfor %}" + CHATML
    talk = [("user", "Hi"), ("assistant", "Yo"), ("user", "bad"), ("assistant", "a"), ("user", "b"), ("assistant", "c")]
    long = {"id": "long", "messages": [{"role": role, "content": content} for role, content in talk]}
    inputs = TokenizeInputs(
        corpus=write_corpus([long, chat("one", "Hi", "Yo")]), tokenizer=make_tokenizer(chat_template=refuses)
    )
    tokenize.run(TokenizeConfig(turns="each_by_its_prefix", on_bad="skip"), inputs, tmp_path)
    found = manifest(tmp_path)
    assert (found["rows"], found["chats"], found["rejected"]) == (2, 2, {"chat": 1})
    assert len((tmp_path / "rejected.jsonl").read_text().splitlines()) == 1
