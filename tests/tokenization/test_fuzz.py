"""Random corpora through public doors; ``HYPOTHESIS_EXAMPLES=20000`` in the environment goes on for longer."""

from __future__ import annotations

import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jinja2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tokenization.conftest import CHATML, SPECIAL, byte_level_bpe
from tokenization import tokenize
from tokenization.encoder import EncodedRows, RowEncoder
from tokenization.reading.parse import parse_row
from tokenization.reading.rows import BadRow, ChatRow, DocumentRow, Message, Row, RowPlace
from tokenization.shards import Shard
from tokenization.tokenize import TokenizeConfig, TokenizeInputs
from tokenization.tokenizer import TokenizerFolder
from tokenization.verify import verify

pytestmark = pytest.mark.slow
EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "300"))
relaxed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

PIECES = [
    *SPECIAL,
    "<think>",
    "</think>",
    "/no_think",
    " ",
    "\n\n",
    "user\n",
    "assistant",
    "{{ x }}",
    "\\",
    '"',
    "\x00",
]
CHARACTERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TEXTS = st.lists(CHARACTERS | st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
WORDS = TEXTS.filter(lambda text: bool(text.strip()))
FIELDS = st.dictionaries(
    CHARACTERS.filter(lambda key: key not in ("id", "text", "messages", "tools")),
    st.none() | st.integers(-(2**53), 2**53) | CHARACTERS | st.lists(st.booleans(), max_size=2),
    max_size=3,
)


@st.composite
def chats(draw: st.DrawFn) -> list[dict[str, str]]:
    """Messages of a chat; it may lack the assistant."""
    roles = ["system"] * draw(st.booleans()) + draw(
        st.lists(st.sampled_from(["user", "assistant"]), min_size=1, max_size=5)
    )
    return [{"role": role, "content": draw(WORDS)} for role in roles]


ROWS = st.fixed_dictionaries({"text": WORDS}) | st.fixed_dictionaries({"messages": chats()})


@cache
def folder() -> Path:
    path = Path(tempfile.mkdtemp())
    (path / "tokenizer.json").write_text(byte_level_bpe())
    config = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>", "chat_template": CHATML}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


@cache
def encoder(fast: bool) -> RowEncoder:
    return RowEncoder(TokenizerFolder(folder()), 1 << 30, why_slow=None if fast else "to compare with")


def as_row(row: dict[str, Any]) -> Row:
    place = RowPlace("data.jsonl", 1)
    if "text" in row:
        return DocumentRow("d", row["text"], b"{}", place)
    return ChatRow("c", [Message(**message) for message in row["messages"]], None, b"{}", place)


@relaxed
@given(st.lists(ROWS, min_size=1, max_size=20))
def test_the_fast_ways_are_the_reference(rows: list[dict[str, Any]]) -> None:
    fast, slow = (encoder(way).encode([as_row(row) for row in rows]) for way in (True, False))
    assert encoder(True).engine.why_not_fast is None
    assert list(fast.rejected) == list(slow.rejected)
    assert fast.is_chat.tolist() == slow.is_chat.tolist()
    assert fast.encoded.ids.tolist() == slow.encoded.ids.tolist()
    assert fast.encoded.lengths.tolist() == slow.encoded.lengths.tolist()
    assert mask_of(fast) == mask_of(slow)


def mask_of(rows: EncodedRows) -> list[int]:
    mask = rows.encoded.mask
    return [1] * len(rows.encoded.ids) if mask is None else mask.tolist()


@relaxed
@given(WORDS)
def test_a_document_is_read_back_as_it_was_and_holds_no_special_token(text: str) -> None:
    tokenizer = TokenizerFolder(folder())
    ids = encoder(True).encode([as_row({"text": text})]).encoded.ids
    assert tokenizer.decode(ids[:-1]) == text
    assert set(tokenizer.special.values()).isdisjoint(ids[:-1].tolist())


@relaxed
@given(chats())
def test_a_chat_holds_the_special_tokens_of_its_template_alone(messages: list[dict[str, str]]) -> None:
    tokenizer = TokenizerFolder(folder())
    encoded = encoder(True).encode([as_row({"messages": messages})])
    assert bool(encoded.rejected) == all(message["role"] != "assistant" for message in messages)
    if not encoded.rejected:
        ids = encoded.encoded.ids.tolist()
        counts = [
            ids.count(tokenizer.special[name]) for name in ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|pad|>")
        ]
        assert counts == [len(messages), len(messages), 1, 0]
        trained = encoded.encoded.ids[np.array(mask_of(encoded), bool)].tolist()
        answers = sum(message["role"] == "assistant" for message in messages)
        assert trained.count(tokenizer.special["<|im_end|>"]) == answers


@relaxed
@given(st.lists(st.tuples(ROWS, FIELDS), min_size=1, max_size=12), st.integers(2, 5))
def test_a_corpus_is_the_same_for_any_number_of_tasks(
    rows: list[tuple[dict[str, Any], dict[str, Any]]], tasks: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        lines = [json.dumps(fields | row, ensure_ascii=False) for row, fields in rows]
        (root / "data.jsonl").write_bytes("\n".join(lines).encode())
        one, many = tokenised(root, 1), tokenised(root, tasks)
        [whole], [together] = verify(one).corpora, verify(many).corpora
        assert whole.sha256 == together.sha256 is not None
        kept = sum(len(Shard(shard)) for shard in one)
        rejected = sum(
            json.loads((shard / "manifest.json").read_text())["rejected"].get("untrainable", 0) for shard in one
        )
        assert kept + rejected == len(rows)


compile_template = jinja2.Environment.compile
COMPILED: dict[tuple[type, str], Any] = {}


def compile_once(environment: jinja2.Environment, template: str) -> Any:
    """A thousand tasks have one template; to compile it takes longer than a task's rows."""
    key = (type(environment), template)
    return COMPILED.get(key) or COMPILED.setdefault(key, compile_template(environment, template))


def tokenised(root: Path, tasks: int) -> list[Path]:
    shards = [root / f"{task}-of-{tasks}" for task in range(tasks)]
    for task, shard in enumerate(shards):
        shard.mkdir()
        config = TokenizeConfig(task=task, tasks=tasks, on_bad="skip", max_bad=1)
        with patch.object(jinja2.Environment, "compile", compile_once):
            tokenize.run(config, TokenizeInputs(corpus=root / "data.jsonl", tokenizer=folder()), shard)
    return shards


@relaxed
@given(ROWS, FIELDS, st.data())
def test_a_damaged_line_is_refused_or_read_as_json_reads_it(
    row: dict[str, Any], fields: dict[str, Any], data: st.DataObject
) -> None:
    line = bytearray(json.dumps(fields | row).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = parse_row(bytes(line), RowPlace("data.jsonl", 1), "default")
    except BadRow as error:
        assert str(error).startswith("data.jsonl:1: ")
        return
    expected = json.loads(line)
    if isinstance(parsed, DocumentRow):
        assert parsed.text == expected["text"]
    else:
        assert [message.content for message in parsed.messages] == [
            message["content"] for message in expected["messages"]
        ]
