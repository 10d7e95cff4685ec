"""A small byte-level ChatML tokenizer, made on the spot, and corpora for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from tokenizers.decoders import ByteLevel

from tests.tokenization.corpus_rows import chat, document
from tokenization import tokenize
from tokenization.__main__ import main
from tokenization.tokenize import TokenizeConfig, TokenizeInputs

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>\\n' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
TEXT = ["The cheese is on the table.", "user\nassistant\nsystem\n", "Which cheese do you like? I like Stilton.\n\n"]

# A busy machine is slow, which says nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

MADE_OF = [document("d", "The cheese is on the table."), chat("c", "Which?", "Stilton."), chat("e", "Hi", "Yo")]

MakeTokenizer = Callable[..., Path]
WriteCorpus = Callable[[Sequence[Mapping[str, Any]]], Path]
Tokenize = Callable[..., list[Path]]


@cache
def byte_level_bpe() -> str:
    """``tokenizer.json`` of a byte-level BPE with the post-processor of Qwen's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT * 10, trainer)
    return tokenizer.to_str()


@pytest.fixture(scope="session")
def bpe() -> str:
    return byte_level_bpe()


@pytest.fixture
def make_tokenizer(tmp_path: Path) -> MakeTokenizer:
    """Writes a tokenizer folder; keywords replace fields of its config, None leaves one out."""

    def make(name: str = "tokenizer", **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        config = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>", "chat_template": CHATML, **changes}
        config = {key: value for key, value in config.items() if value is not None}
        (folder / "tokenizer.json").write_text(byte_level_bpe())
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config})
        )
        return folder

    return make


@pytest.fixture
def write_corpus(tmp_path: Path) -> WriteCorpus:
    """Writes rows to ``data.jsonl`` and returns the file."""

    def write(rows: Sequence[Mapping[str, Any]]) -> Path:
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def tokenize_rows(write_corpus: WriteCorpus, make_tokenizer: MakeTokenizer, tmp_path: Path) -> Tokenize:
    """Tokenises rows with a number of tasks and returns the shard folders."""
    tokenizer = make_tokenizer("tokenizer-of-rows")

    def run(rows: Sequence[Mapping[str, Any]], tasks: int = 1, name: str = "shards") -> list[Path]:
        inputs = TokenizeInputs(corpus=write_corpus(rows), tokenizer=tokenizer)
        folders = [tmp_path / name / f"{task}-of-{tasks}" for task in range(tasks)]
        for task, folder in enumerate(folders):
            folder.mkdir(parents=True)
            tokenize.run(TokenizeConfig(task=task, tasks=tasks), inputs, folder)
        return folders

    return run


@pytest.fixture
def mixed_rows() -> list[dict[str, Any]]:
    """60 documents and chats of many lengths, some with characters of several bytes."""
    rows: list[dict[str, Any]] = []
    for number in range(60):
        words = "The cheese é 山 is 😀 on the table. " * (number * 7 % 11 + 1)
        if number % 3:
            rows.append({**document(f"d{number}", words.strip()), "seed": number})
        else:
            rows.append(chat(f"c{number}", "Which cheese?", words.strip(), system="Be 山." if number % 2 else None))
    return rows


@pytest.fixture
def made(make_tokenizer: Any, write_corpus: Any, tmp_path: Path) -> Path:
    """A folder with ``tokenizer``, ``shards/0`` and ``plan``, made by the commands."""
    make_tokenizer()
    tokenize = ["run", "--corpus", str(write_corpus(MADE_OF)), "--tokenizer", f"{tmp_path}/tokenizer"]
    assert main([*tokenize, "--out", f"{tmp_path}/shards/0"]) == 0
    pack = ["pack", "--shards", f"all={tmp_path}/shards", "--sequence-length", "64", "--out", f"{tmp_path}/plan"]
    assert main(pack) == 0
    return tmp_path
