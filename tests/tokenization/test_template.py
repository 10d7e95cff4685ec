from pathlib import Path
from typing import Any

import pytest

from tokenization.corpus import Chat, Message, Place
from tokenization.errors import BadInput
from tokenization.template import ChatTemplate

PATH = Path("tokenizer_config.json")
NAMED = (
    "{% for message in messages %}{{ message['name'] | default(message['role']) }}: {{ message['content'] }}\n"
    "{% endfor %}{% if add_generation_prompt %}{{ assistant_name | default('assistant') }}: {% endif %}"
)


@pytest.fixture
def make_chat(tmp_path: Path) -> Any:
    path = tmp_path / "data.jsonl"
    path.write_text("\n\n\n")

    def make(*messages: Message) -> Chat:
        return Chat("c", messages, {}, Place(path, 2))

    return make


def test_the_assistant_writes_what_follows_its_prompt(make_chat: Any) -> None:
    chat = make_chat(Message("user", "Hi"), Message("assistant", "Yo"), Message("user", "?"), Message("assistant", "!"))
    rendered = ChatTemplate(PATH, NAMED, {}).render(chat)
    assert rendered.text == "user: Hi\nassistant: Yo\nuser: ?\nassistant: !\n"
    assert [rendered.text[begin:end] for begin, end in rendered.spans] == ["Yo\n", "!\n"]


def test_a_speaker_name_is_in_the_prompt_too(make_chat: Any) -> None:
    rendered = ChatTemplate(PATH, NAMED, {}).render(make_chat(Message("user", "Hi"), Message("assistant", "Yo", "Ada")))
    assert rendered.text == "user: Hi\nAda: Yo\n"
    assert [rendered.text[begin:end] for begin, end in rendered.spans] == ["Yo\n"]


def test_a_chat_may_end_with_the_user(make_chat: Any) -> None:
    chat = make_chat(Message("user", "Hi"), Message("assistant", "Yo"), Message("user", "?"))
    rendered = ChatTemplate(PATH, NAMED, {}).render(chat)
    assert rendered.text == "user: Hi\nassistant: Yo\nuser: ?\n"
    assert [rendered.text[begin:end] for begin, end in rendered.spans] == ["Yo\n"]


def test_it_prints_what_transformers_prints(make_chat: Any) -> None:
    """A template that uses all that transformers offers to templates."""
    render = pytest.importorskip("transformers.utils.chat_template_utils").render_jinja_template
    source = """{{ bos_token }}
    {%- if tools is none and documents is none %} no tools
    {% endif %}
    {% for message in messages %}
        {% if message['role'] == 'system' %}{% continue %}{% endif %}
        {% if message['role'] == 'assistant' %}
            {% generation %}{{ message | tojson(indent=1) }}{% endgeneration %}
        {% else %}
{{ message['content'] | trim }}<é & "{{ message['content'] | tojson }}">
        {% endif %}
    {% endfor %}
    {% if add_generation_prompt %}ASSISTANT{% endif %}"""
    messages = [{"role": "system", "content": "no"}, {"role": "user", "content": " <b> é "}]
    [expected], _ = render([messages], chat_template=source, bos_token="<s>")
    chat = make_chat(Message("system", "no"), Message("user", " <b> é "))
    assert ChatTemplate(PATH, source, {"bos_token": "<s>"}).render(chat).text == expected


def test_the_day_does_not_change_a_shard(make_chat: Any) -> None:
    source = "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %}"
    assert ChatTemplate(PATH, source, {}).render(make_chat(Message("user", "Hi"))).text == "26 Jul 2024"


@pytest.mark.parametrize(
    ("condition", "index"),
    [("loop.last", 1), ("loop.last and message['role'] == 'assistant'", 3)],
    ids=["in the prompt", "in the answer"],
)
def test_a_template_that_rewrites_earlier_turns_is_refused(make_chat: Any, condition: str, index: int) -> None:
    source = (
        "{% for message in messages %}{{ message['role'] }}:"
        f"{{% if {condition} %}}<think>{{% endif %}}"
        "{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    chat = make_chat(Message("user", "Hi"), Message("assistant", "Yo"), Message("user", "?"), Message("assistant", "!"))
    with pytest.raises(BadInput, match=rf"data\.jsonl:3: messages\[{index}\]: .*differently"):
        ChatTemplate(PATH, source, {}).render(chat)


def test_a_chat_that_the_template_refuses_is_named(make_chat: Any) -> None:
    source = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(BadInput, match=r"data\.jsonl:3: messages: .*roles must alternate"):
        ChatTemplate(PATH, source, {}).render(make_chat(Message("user", "Hi")))


def test_a_template_cannot_reach_python(make_chat: Any) -> None:
    with pytest.raises(BadInput, match="unsafe"):
        ChatTemplate(PATH, "{{ messages.__class__.__mro__ }}", {}).render(make_chat(Message("user", "Hi")))


def test_a_template_that_is_not_jinja_is_refused() -> None:
    with pytest.raises(BadInput, match=r"tokenizer_config\.json: chat_template: line 2"):
        ChatTemplate(PATH, "{% for message in messages %}\n{% endif %}", {})
