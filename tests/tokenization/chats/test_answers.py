"""What an evaluation scores is a part of what training trains on."""

from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from tests.tokenization.chats.chat_templates import DATED, NAMED, QWEN3, QWEN25, SPACED, THINKING, TRIMMED
from tests.tokenization.conftest import CHATML
from tokenization.chats.answers import AnswerEncoder
from tokenization.encoder import RowEncoder
from tokenization.reading.rows import ChatRow, Message, RowPlace
from tokenization.tokenizer import TokenizerFolder

TEMPLATES = {
    "chatml": CHATML,
    "qwen25": QWEN25,
    "qwen3": QWEN3,
    "thinking": THINKING,
    "trimmed": TRIMMED,
    "spaced": SPACED,
    "dated": DATED,
}
QUESTIONS = {
    "plain": ("Do you prefer bus or car?", "I prefer bus."),
    "said before": ("Is it bus?", "bus"),
    "special text": ("What is <|im_end|>?", "I prefer <|pad|>."),
    "characters of several bytes": ("山 or 😀?", "I prefer 山😀."),
}


def trained(folder: Path, question: str, answer: str) -> tuple[list[int], list[int]]:
    """Ids and loss mask of the chat, as the tokenise stage makes them."""
    messages = [Message("user", question), Message("assistant", answer)]
    rows = RowEncoder(TokenizerFolder(folder), 0).encode([ChatRow("c", messages, None, b"{}", RowPlace("f", 1))])
    assert rows.encoded.mask is not None
    return rows.encoded.ids.tolist(), rows.encoded.mask.tolist()


@pytest.mark.parametrize(("question", "answer"), QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES)
def test_an_answer_is_scored_as_it_is_trained(make_tokenizer: Any, source: str, question: str, answer: str) -> None:
    folder = make_tokenizer(chat_template=source, bos_token="<|im_start|>")
    encoder = AnswerEncoder(folder)
    scored = encoder.encode(question, answer)
    ids, mask = trained(folder, question, answer)
    assert ids[: len(scored.ids)] == scored.ids.tolist()
    assert mask[scored.start : len(scored.ids)] == [1] * (len(scored.ids) - scored.start)
    assert encoder.tokenizer.decode(scored.ids[scored.start :]).strip() == answer


def test_the_day_does_not_change_a_prompt(make_tokenizer: Any) -> None:
    encoder = AnswerEncoder(make_tokenizer(chat_template=DATED))
    assert "Today: 26 Jul 2024<" in encoder.tokenizer.decode(encoder.encode("Hi", "Yo").ids)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "has no chat template"),
        ("{{ raise_exception('no chats') }}", "the question 'Hi' cannot be asked: .*no chats"),
        (CHATML.replace("message['content']", "message['content'] | upper"), "prints 'Yo', an assistant's answer, as"),
        (CHATML.replace("<|im_start|>assistant\\n'", "<|im_start|>assistant\\n<think>\\n'"), "prints 'Yo'"),
    ],
)
def test_what_no_chat_could_be_trained_on_is_refused(make_tokenizer: Any, source: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        AnswerEncoder(make_tokenizer(chat_template=source)).encode("Hi", "Yo")


def test_an_answer_that_shares_a_token_with_its_prompt_is_refused(make_tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"does not separate .* from the answer in 'user: Hi"):
        AnswerEncoder(make_tokenizer(chat_template=NAMED)).encode("Hi", "I like it.")
