from pathlib import Path
from typing import Any, Literal

import pytest

from tests.tokenization.chats.chat_templates import NAMED, QWEN3, QWEN25, THINKING
from tests.tokenization.conftest import CHATML, SPECIAL
from tokenization.chats.special_tokens import SpecialTokens
from tokenization.chats.template import ChatTemplate
from tokenization.chats.turns import Printed, Turns
from tokenization.reading.rows import BadRow, ChatRow, Message, RowPlace

PLACE = RowPlace("data.jsonl", 3, unit="row")
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
CALL = [{"type": "function", "function": {"name": "look", "arguments": {}}}]


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str, **fields: Any) -> Message:
    return Message("assistant", text, **fields)


def printed(
    source: str,
    *messages: Message,
    eod: str = "<|endoftext|>",
    cot: Literal["train", "mask"] = "train",
    tools: list[dict[str, Any]] | None = None,
) -> Printed:
    specials = SpecialTokens({text: number for number, text in enumerate(SPECIAL)})
    turns = Turns(ChatTemplate(Path("config"), source, {"eos_token": eod}), specials, eod, cot)
    return turns.print(ChatRow("c", list(messages), tools, b"{}", PLACE))


def targets(chat: Printed) -> list[str]:
    return [chat.text[begin:end] for begin, end in chat.spans]


DIALOGUE = (user("Hi"), assistant("Yo"), user("?"), assistant("!"))


def test_the_assistant_writes_what_follows_its_prompt() -> None:
    chat = printed(NAMED, *DIALOGUE)
    assert chat.text == "user: Hi\nassistant: Yo\nuser: ?\nassistant: !\n"
    assert targets(chat) == ["Yo\n", "!\n"]
    assert chat.eod_is_target


def test_a_turn_ends_with_its_last_special_token() -> None:
    assert targets(printed(CHATML, *DIALOGUE)) == ["Yo<|im_end|>", "!<|im_end|>"]
    assert targets(printed(CHATML, *DIALOGUE, eod="<|im_end|>")) == ["Yo<|im_end|>", "!<|im_end|>"]


def test_white_space_after_a_last_eod_is_left_out() -> None:
    assert printed(CHATML, *DIALOGUE).text.endswith("!<|im_end|>\n")
    assert printed(CHATML, *DIALOGUE, eod="<|im_end|>").text.endswith("!<|im_end|>")


def test_eod_after_the_last_turn_alone_rewrites_no_turn() -> None:
    source = CHATML.replace(
        "{% if add_generation_prompt %}", "{% if not add_generation_prompt %}{{ eos_token }}{% else %}"
    )
    chat = printed(source, *DIALOGUE)
    assert targets(chat) == ["Yo<|im_end|>", "!<|im_end|>\n<|endoftext|>"]
    assert chat.turns - chat.trained_turns == 0


def test_a_speakers_name_is_in_the_prompt_too() -> None:
    chat = printed(NAMED, user("Hi"), assistant("Yo", name="Ada"))
    assert chat.text == "user: Hi\nAda: Yo\n"
    assert targets(chat) == ["Yo\n"]


def test_a_chat_may_end_with_the_user() -> None:
    chat = printed(CHATML, user("Hi"), assistant("Yo"), user("?"))
    assert targets(chat) == ["Yo<|im_end|>"]
    assert not chat.eod_is_target


def test_a_turn_that_is_rewritten_later_is_counted_and_not_trained() -> None:
    thoughts = "<think>\nhm\n</think>\n\n"
    chat = printed(THINKING, user("Hi"), assistant(f"{thoughts}Yo"), user("?"), assistant(f"{thoughts}!"))
    assert chat.text.count("hm") == 1
    assert targets(chat) == [f"{thoughts}!<|im_end|>"]
    assert chat.turns - chat.trained_turns == 1


def test_a_turn_that_does_not_begin_with_its_prompt_is_not_trained() -> None:
    source = CHATML.replace("<|im_start|>assistant\\n'", "<|im_start|>assistant\\n<think>\\n'")
    chat = printed(source, user("Hi"), assistant("Yo"), user("?"), assistant("<think>\nhm</think>!"))
    assert targets(chat) == ["hm</think>!<|im_end|>"]
    assert chat.turns - chat.trained_turns == 1


def test_qwen3_trains_its_last_turn_with_an_empty_thought() -> None:
    chat = printed(QWEN3, user("Hi /no_think"), assistant("Yo"), user("?"), assistant("!"))
    assert targets(chat) == ["<think>\n\n</think>\n\n!<|im_end|>"]
    assert chat.turns - chat.trained_turns == 1
    assert targets(printed(QWEN3, user("Hi /no_think"), assistant("Yo"), cot="mask")) == ["Yo<|im_end|>"]


@pytest.mark.parametrize(
    ("content", "left"),
    [
        ("<think>\nhm\n</think>\n\nYo", ["Yo<|im_end|>"]),
        ("So <think>hm</think> Yo <think>eh</think>!", ["So ", "Yo ", "!<|im_end|>"]),
        ("<think>never closed", []),
        ("no </think> opened", ["no </think> opened<|im_end|>"]),
        ("plain", ["plain<|im_end|>"]),
    ],
)
def test_thoughts_can_be_left_out(content: str, left: list[str]) -> None:
    question = user("What does <think> mean?")
    assert targets(printed(CHATML, question, assistant(content), cot="mask")) == left
    assert targets(printed(CHATML, question, assistant(content))) == [f"{content}<|im_end|>"]


def test_eod_is_no_target_after_a_thought_that_is_left_out() -> None:
    chat = printed(CHATML, *DIALOGUE[:3], assistant("<think>never closed"), cot="mask")
    assert targets(chat) == ["Yo<|im_end|>"]
    assert not chat.eod_is_target


def test_a_thought_opened_by_the_prompt_is_left_out_too() -> None:
    source = CHATML.replace("<|im_start|>assistant\\n'", "<|im_start|>assistant\\n<think>\\n'")
    chat = printed(source, user("Hi"), assistant("<think>\nhm\n</think>\nYo"), cot="mask")
    assert targets(chat) == ["Yo<|im_end|>"]


def test_special_text_in_messages_is_no_special_token() -> None:
    chat = printed(CHATML, user("<|im_end|>\ue000"), assistant("<|im_start|><|im_end|>"))
    assert chat.mentions_specials
    assert chat.text.count("<|im_end|>") == 4
    assert [chat.text[special.begin : special.end] for special in chat.specials] == ["<|im_start|>", "<|im_end|>"] * 2
    assert targets(chat) == ["<|im_start|><|im_end|><|im_end|>"]


def test_special_text_in_tools_and_names_is_none_either() -> None:
    tools = [{"type": "function", "function": {"name": "look", "description": "<|im_end|>", "<|pad|>": [1, None]}}]
    chat = printed(QWEN25, user("Hi"), assistant("Yo"), tools=tools)
    assert '"description": "<|im_end|>", "<|pad|>": [1, null]' in chat.text
    assert len(chat.specials) == 6
    assert printed(NAMED, user("Hi"), assistant("Yo", name="<|pad|>")).specials == ()


def test_a_call_of_a_tool_is_a_target_and_its_answer_is_not() -> None:
    chat = printed(
        QWEN25, user("Hi"), assistant("", tool_calls=CALL), Message("tool", "42"), assistant("It is 42."), tools=TOOLS
    )
    call = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call><|im_end|>'
    assert targets(chat) == [call, "It is 42.<|im_end|>"]


def test_reasoning_is_a_target_where_the_template_prints_it() -> None:
    chat = printed(QWEN3, user("Hi"), assistant("Yo", reasoning_content="hm"))
    assert targets(chat) == ["<think>\nhm\n</think>\n\nYo<|im_end|>"]


@pytest.mark.parametrize(
    ("source", "messages", "tools", "message"),
    [
        (
            CHATML,
            [assistant("Yo", reasoning_content="hm")],
            None,
            "reasoning_content: the chat .*<think>",
        ),
        (CHATML, [assistant("Yo", tool_calls=CALL)], None, "tool_calls: the chat template does not print this"),
        (CHATML, [assistant("Yo")], TOOLS, "tools: the chat template does not print this"),
        ("{{ raise_exception('no') }}", [user("Hi")], None, r"messages: the chat template refuses them \(no\)"),
    ],
)
def test_nothing_is_lost_silently(
    source: str, messages: list[Message], tools: list[dict[str, Any]] | None, message: str
) -> None:
    with pytest.raises(BadRow, match=f"data.jsonl:row 3: {message}") as error:
        printed(source, *messages, tools=tools)
    assert error.value.reason == "chat"


def test_an_assistant_that_begins_is_not_trained_where_no_prompt_asks_for_it() -> None:
    """Qwen's template cannot print a chat of no messages."""
    chat = printed(QWEN25, assistant("Hello."), user("Hi"), assistant("Yo"))
    assert targets(chat) == ["Yo<|im_end|>"]
    assert chat.turns - chat.trained_turns == 1
