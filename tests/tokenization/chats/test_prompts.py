"""What a model is asked is what it was trained to answer."""

from pathlib import Path
from typing import Any

import pytest

from tests.tokenization.chats.test_answers import QUESTIONS, TEMPLATES, trained
from tests.tokenization.conftest import CHATML
from tokenization.chats.prompts import PromptEncoder
from tokenization.reading.rows import BadRow

# GPT-2's rules, as this tokenizer's, cut two line breaks apart before a word and not at the end of a text.
SEPARATED = {name: source for name, source in TEMPLATES.items() if name != "trimmed"}


@pytest.mark.parametrize(("question", "answer"), QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize("source", SEPARATED.values(), ids=SEPARATED)
def test_a_prompt_is_what_training_has_before_the_answer(
    make_tokenizer: Any, source: str, question: str, answer: str
) -> None:
    folder = make_tokenizer(chat_template=source, bos_token="<|im_start|>")
    encoder = PromptEncoder(folder)
    prompt = encoder.encode([{"role": "user", "content": question}]).tolist()
    ids, mask = trained(folder, question, answer)
    assert ids[: len(prompt)] == prompt
    assert mask[: len(prompt) + 1] == [0] * len(prompt) + [1]
    end = next(index for index in range(len(prompt), len(ids)) if ids[index] in encoder.ends)
    assert mask[end] == 1
    assert encoder.decode(ids[len(prompt) : end]).strip().endswith(answer)


def test_messages_that_the_template_refuses_are_no_prompt(make_tokenizer: Any, tmp_path: Path) -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    encoder = PromptEncoder(make_tokenizer(chat_template=refusing))
    assert len(encoder.encode([{"role": "user", "content": "Hi"}]))
    with pytest.raises(BadRow, match="no system"):
        encoder.encode([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}])
