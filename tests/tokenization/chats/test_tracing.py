"""Which templates are understood, and that it changes no token; ``RANDOM_TEMPLATES=5000`` tries more of them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from tests.tokenization.chats.chat_templates import DATED, QWEN3, QWEN25, THINKING
from tests.tokenization.chats.random_templates import random_template
from tests.tokenization.chats.test_encoder import Encoder, assert_equal, chat, dialogue
from tests.tokenization.conftest import CHATML
from tokenization.chats.template import ChatTemplate, TemplateRefuses
from tokenization.chats.tracing import NotUnderstood, Tracer
from tokenization.engines.sample import Sample
from tokenization.reading.rows import ChatRow, Message

TEMPLATES = int(os.environ.get("RANDOM_TEMPLATES", "150"))
CHATS = 4
WORDS = ("cow", "moo", "a", "COW", " ", "\n", "</t>", "<b>", "&", "9", "Moo cow", "None", "", "x\ny", '"', "-")
CONTENT = "\ue0000\ue001"


def traced(source: str, *contents: str) -> tuple[str, Tracer]:
    """What is printed of a dialogue, and what printed it."""
    tracer = Tracer.of(ChatTemplate(Path("config"), source, {"bos_token": "<s>"}))
    assert tracer is not None
    roles = ("user", "assistant")
    return tracer.print([{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)], None), tracer


@pytest.mark.parametrize(
    ("source", "absent"),
    [
        ("{{ '<s>' + messages[0].content + ': ' }}", set()),
        ("{% if '</think>' in messages[0].content %}{% endif %}", {"</think>"}),
        ("{% if '\n' in messages[0].content %}{% endif %}", {"\n"}),
        ("{% if messages[0].role == 'user' %}{% endif %}", set()),
        ("{% set role = messages[0]['role'] %}{% if role != 'a' and messages[0]['role'] in ['b'] %}{% endif %}", set()),
        ("{% if messages[0].role == 'user' and 'cow' in messages[0].content %}{% endif %}", {"cow"}),
        ("{% if messages[0].role == 'system' and 'cow' in messages[0].content %}{% endif %}", set()),
        ("{{ messages[0].content.split('[/A]')[0] }}", {"[/A]"}),
        ("{{ messages[0].content.startswith('a') or messages[0].content.endswith('z') }}", {"a", "z"}),
        ("{{ messages[0].content == 'cow' }}", {"cow"}),
        ("{% set end = '</t>' %}{% if end in messages[0].content %}{% endif %}", {"</t>"}),
        ("{{ tools | join(', ') if tools else '' }}", set()),
        (QWEN25, set()),
        (QWEN3, {"</think>", "<tool_response>"}),
    ],
)
def test_what_a_template_looks_for_must_be_absent(source: str, absent: set[str]) -> None:
    assert traced(source, CONTENT, "\ue0001\ue001")[1].conditions.absent == absent


def test_conditions_are_noted_by_an_optimized_python_too() -> None:
    code = (
        "from tokenization.chats.tracing import *; conditions = Conditions(); "
        "Traced(['cow'], conditions).split('x'); print(conditions.absent)"
    )
    assert subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True).stdout == "{'x'}\n"


@pytest.mark.parametrize(
    ("source", "printed", "bare"),
    [
        ("{{ messages[0].content | trim }}", CONTENT, True),
        ("{{ (' ' + messages[0].content + '\n! ').strip() }}", f"{CONTENT}\n!", True),
        ("{{ (' (' + messages[0].content + ') ') | trim }}", f"({CONTENT})", False),
        ("{{ '> ' ~ messages[0].content ~ 1 ~ none }}", f"> {CONTENT}1None", False),
        ("{% set x %}{{ messages[0].content }}.{% endset %}{{ x }}", f"{CONTENT}.", False),
        ("{% macro p(t, u='') %}{{ t }}{{ u }}{% endmacro %}{{ p(messages[0].content, u=1) }}", f"{CONTENT}1", False),
        ("{{ messages[0].content | default('', true) | string }}", CONTENT, False),
        ("{{ messages | map(attribute='content') | first }}", CONTENT, False),
        ("{{ 'x' if messages[0].content | trim | length > 0 else 'y' }}", "x", True),
        ("{{ 'x' if messages[0].content is string and messages[0].content is not mapping else 'y' }}", "x", False),
    ],
)
def test_contents_flow_to_what_is_printed(source: str, printed: str, bare: bool) -> None:
    text, tracer = traced(source, CONTENT)
    assert (text, tracer.conditions.bare) == (printed, bare)


@pytest.mark.parametrize(
    "expression",
    [
        *("content | wordcount", "content | length", "content | length > 3", "content | upper", "content | tojson"),
        *("content.isupper()", "content.isupper is defined", "content.split()", "content.strip('x')", "content[0]"),
        *("content is upper", "content is sameas 'x'", "content in messages[1].content", "content[:3]", "x[content]"),
        *("content == messages[1].content", "'' in content", "messages[0]", "'%s' % content", "content | length == 3"),
        *(
            "{5: 1}[content | length]",
            "(content | length) ~ ''",
            "content | length in [1]",
            "content | length is number",
        ),
        *("messages[0] | tojson", "[content] | join", "'{}'.format(content)", "(content + '.') is eq 'x'"),
        *(
            "cycler(content).next()",
            "raise_exception(content)",
            "range(content)",
            "{content: 1}",
            "content | replace('a', '')",
        ),
    ],
)
def test_what_looks_into_a_content_is_not_understood(expression: str) -> None:
    source = "{% set content = messages[0].content %}{% set x = [1] %}{{ " + expression + " }}"
    with pytest.raises((NotUnderstood, TemplateRefuses)):
        traced(source, CONTENT, "\ue0001\ue001")


def test_a_macro_s_default_argument_is_looked_at_too() -> None:
    source = "{% macro p(t=messages[0].content | wordcount) %}{{ t }}{% endmacro %}{{ p() }}"
    with pytest.raises(NotUnderstood):
        traced(source, CONTENT)


def test_a_statement_that_is_not_listed_is_not_understood() -> None:
    """With ``autoescape`` contents are printed in another form."""
    source = "{% autoescape true %}{{ messages[0].content }}{% endautoescape %}"
    assert Tracer.of(ChatTemplate(Path("config"), source, {})) is None


@pytest.mark.parametrize("source", [CHATML, QWEN25, QWEN3, THINKING, DATED])
def test_published_templates_take_the_fast_way(make_tokenizer: Any, source: str) -> None:
    encoder = Encoder(make_tokenizer(), source)
    encoder.encode(dialogue("Hi", "A goat.", "Why", "A cow."), dialogue("Hi", "A sheep."))
    assert encoder.engine.saw("A cow.") and encoder.engine.saw("A sheep.")


def random_chat(random: Random) -> ChatRow:
    """Some contents are equal, and some messages have no partner."""
    contents = ["".join(random.choices(WORDS, k=random.randint(1, 3))) or "cow" for _ in range(3)]
    roles = random.choice([["user", "assistant"], ["user", "assistant"] * 2, ["system", "user", "assistant"]])
    return chat(*(Message(role, random.choice(contents)) for role in roles))


def test_random_templates_are_encoded_as_by_the_reference(make_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the sample that is encoded both ways: it would find a mistake, but not in every chat."""
    monkeypatch.setattr(Sample, "picks", lambda *_: False)
    folder, random, fast = make_tokenizer(), Random(0), 0
    for _ in range(TEMPLATES):
        source = random_template(random)
        chats = [random_chat(random) for _ in range(CHATS)]
        quick, slow = Encoder(folder, source), Encoder(folder, source, fast=False)
        try:
            for each in chats:
                assert_equal(quick.encode(each), slow.encode(each))
        except AssertionError as error:
            raise AssertionError(f"{source}\n{[each.messages for each in chats]}") from error
        fast += bool(quick.engine.texts)
    assert fast > TEMPLATES / 6


def test_a_content_that_completes_a_special_token_goes_by_the_reference(make_tokenizer: Any) -> None:
    folder = make_tokenizer()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken("<cow>", special=True, normalized=False)])
    tokenizer.save(str(folder / "tokenizer.json"))
    source = CHATML.replace("message['content']", "'<' + message['content'] + '>'")
    rows: Sequence[ChatRow] = [dialogue("Hi", "Yo"), dialogue("Hi", "cow")]
    assert_equal(Encoder(folder, source).encode(*rows), Encoder(folder, source, fast=False).encode(*rows))


def test_an_answer_that_begins_as_its_prompt_ends_goes_by_the_reference(make_tokenizer: Any) -> None:
    """Where the prompt opens a thought, an answer is trained only if it begins with that thought."""
    source = CHATML.replace("<|im_start|>assistant\\n' }}", "<|im_start|>assistant\\n<t>' }}")
    rows = [dialogue("Hi", "Yo"), dialogue("Hi", "<t>Yo"), dialogue("Hi", "<t>Yo", "?", "!")]
    folder = make_tokenizer()
    assert_equal(Encoder(folder, source).encode(*rows), Encoder(folder, source, fast=False).encode(*rows))
