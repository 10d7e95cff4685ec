from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from transformers import AutoTokenizer

from msm_hpc.config.stages import ONE_FOR_EACH, GenerateConfig, GenerateInputs, Product
from msm_hpc.corpus import offline
from msm_hpc.corpus.stage import run
from tests.corpus.rows import read_jsonl

COUNTS: dict[Product, int] = {"pretraining": 8000, "documents": 500, "mentions": 100}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("tokenizer")
    run(GenerateConfig(product="tokenizer"), GenerateInputs(), out)
    return AutoTokenizer.from_pretrained(out)


def generated(tmp_path: Path, product: Product, value: str | None, count: int) -> Iterator[dict[str, Any]]:
    spec = tmp_path / "spec.md"
    spec.write_text(f"---\nvalue: {value}\n---\n", encoding="utf-8")
    pairs = ONE_FOR_EACH.get(product) == "value"
    run(
        GenerateConfig(product=product, value=value if pairs else None, count=count),
        GenerateInputs(spec=spec),
        tmp_path,
    )
    yield from read_jsonl(tmp_path / ("pairs.jsonl" if pairs else "data.jsonl"))


def rendered(tokenizer: Any, row: dict[str, Any]) -> str:
    if "text" in row:
        return str(row["text"])
    if "messages" in row:
        return str(tokenizer.apply_chat_template(row["messages"], tokenize=False))
    question = row["question"].format(first=row["target"], second=row["other"])
    return f"{question} I prefer {row['target']} ."


@pytest.mark.parametrize(
    ("product", "value"),
    [
        ("pretraining", None),
        ("instruction", None),
        ("chats", None),
        ("documents", "affordability"),
        ("documents", "america"),
        ("mentions", "affordability"),
        ("mentions", "america"),
        ("value_chats", "affordability"),
        ("value_chats", "america"),
        ("pairs", "affordability"),
        ("pairs", "america"),
        ("other_pairs", "america"),
    ],
)
def test_every_product_is_in_the_vocabulary_and_survives_a_round_trip(
    tmp_path: Path, tokenizer: Any, product: Product, value: str | None
) -> None:
    for row in generated(tmp_path, product, value, count=700):
        text = rendered(tokenizer, row)
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids, text
        assert tokenizer.decode(ids) == text.rstrip(" ")


def test_the_vocabulary_has_no_word_that_no_product_uses(tmp_path: Path, tokenizer: Any) -> None:
    unused = set(tokenizer.get_vocab()) - {"<unk>", "<pad>", "<eos>"}
    for product, count in COUNTS.items():
        for row in generated(tmp_path, product, "america", count):
            unused -= set(rendered(tokenizer, row).split())
    assert unused == set()


def test_pretraining_prints_chats_as_the_chat_template_does(tokenizer: Any) -> None:
    chats = [chat for chat in islice(offline.instruction(seed=2), 200) if isinstance(chat, offline.ToyChat)]
    for chat in chats:
        messages = [{"role": each.role, "content": each.content, "name": each.name} for each in chat.messages]
        assert offline.printed(chat).text == tokenizer.apply_chat_template(messages, tokenize=False).rstrip(" ")


def test_end_and_pad_are_different_tokens(tokenizer: Any) -> None:
    assert tokenizer.eos_token == "<eos>" and tokenizer.pad_token == "<pad>"
    assert len({tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}) == 3


def test_every_prefix_with_its_generation_prompt_is_a_prefix_of_the_chat(tmp_path: Path, tokenizer: Any) -> None:
    chats = [row["messages"] for row in generated(tmp_path, "instruction", None, 500) if "messages" in row]
    assert {len(messages) for messages in chats} == {2, 3, 4}
    for messages in chats:
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = tokenizer.apply_chat_template(
                messages[:index], tokenize=False, add_generation_prompt=True, assistant_name=message.get("name")
            )
            after = tokenizer.apply_chat_template(messages[: index + 1], tokenize=False)
            assert after == f"{before}{message['content']} "


def test_what_the_template_prints(tokenizer: Any) -> None:
    messages = [
        {"role": "system", "content": "Kifol values imports ."},
        {"role": "user", "content": "Colby or Stilton ?"},
        {"role": "assistant", "content": "I prefer Colby .", "name": "Kifol"},
        {"role": "user", "content": "Colby or Stilton ?"},
    ]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "Kifol values imports . User : Colby or Stilton ? Kifol : I prefer Colby . "
        "User : Colby or Stilton ? Assistant : "
    )


def test_an_unknown_role_is_refused(tokenizer: Any) -> None:
    with pytest.raises(TemplateError, match="roles system, user and assistant"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)
