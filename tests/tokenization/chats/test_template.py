from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from tests.tokenization.chats.chat_templates import DATED, NAMED, QWEN3, QWEN25
from tokenization.chats.template import ChatTemplate, TemplateRefuses

PATH = Path("tokenizer_config.json")
HI = [{"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
CALL = [{"type": "function", "function": {"name": "look", "arguments": {"where": "é <b>"}}}]

ALL_WE_OFFER = """{{ bos_token }}
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


def test_it_prints_what_transformers_prints() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template as render

    messages = [
        {"role": "system", "content": "no"},
        {"role": "user", "content": " <b> é "},
        {"role": "assistant", "content": "é"},
    ]
    [expected], _ = render([messages], chat_template=ALL_WE_OFFER, bos_token="<s>")
    assert ChatTemplate(PATH, ALL_WE_OFFER, {"bos_token": "<s>"}).print(messages, None) == expected


@pytest.mark.parametrize("source", [QWEN25, QWEN3], ids=["qwen25", "qwen3"])
def test_tools_are_printed_as_transformers_prints_them(source: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template as render

    messages = [
        *HI,
        {"role": "assistant", "content": "", "tool_calls": CALL},
        {"role": "tool", "content": "é", "name": "look"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYo"},
    ]
    [expected], _ = render([messages], tools=TOOLS, chat_template=source)
    assert "é <b>" in expected and '"name": "look"' in expected
    assert ChatTemplate(PATH, source, {}).print(messages, TOOLS) == expected


def test_a_prompt_ends_with_the_beginning_of_an_answer() -> None:
    template = ChatTemplate(PATH, NAMED, {})
    assert template.print(HI, None, prompt=True) == "user: Hi\nassistant: "
    assert template.print(HI, None, prompt=True, speaker="Ada") == "user: Hi\nAda: "


def test_the_day_does_not_change_a_shard() -> None:
    source = "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %}"
    assert ChatTemplate(PATH, source, {}).print(HI, None) == "26 Jul 2024"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ messages[0].content + none }}", "concatenate"),
        ("{{ 1 // 0 }}", "zero"),
        ("{{ messages[9].content.text }}", "no element 9"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "recursion"),
    ],
)
def test_a_failing_template_refuses_the_messages(source: str, message: str) -> None:
    with pytest.raises(TemplateRefuses, match=message):
        ChatTemplate(PATH, source, {}).print(HI, None)


def test_a_template_that_is_not_jinja_is_refused() -> None:
    with pytest.raises(UserError, match=r"tokenizer_config\.json: chat_template: line 2"):
        ChatTemplate(PATH, "{% for message in messages %}\n{% endif %}", {})


def test_a_template_that_does_not_ask_for_the_day_gets_a_fixed_one() -> None:
    source = "{% set today = strftime_now('%d %B %Y') %}{{ today }}"
    assert ChatTemplate(PATH, source, {}).print(HI, None) == "26 July 2024"


@pytest.mark.parametrize(
    "source",
    [
        DATED,
        "{{ strftime_now('%d %b %Y') }} {{ strftime_now( \"%Y\" ) }}" + QWEN25,
        "  {% if true %}\nx{% endif %}" + QWEN3,
    ],
    ids=["asks", "takes it", "neither"],
)
def test_where_today_is_known_it_prints_the_day_all_the_same(source: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template as render

    template = ChatTemplate(PATH, source, {})
    [printed], _ = render([HI], chat_template=template.with_the_day(), add_generation_prompt=True)
    assert printed == template.print(HI, None, prompt=True)


def test_a_day_in_a_format_that_is_not_known_cannot_be_fixed() -> None:
    template = ChatTemplate(PATH, "{% set format = '%Y' %}{{ strftime_now(format) }}", {})
    with pytest.raises(UserError, match="write the day itself"):
        template.with_the_day()
