"""A model's own chat template, and which characters of its output the assistant wrote.

A template is a Jinja program that prints a whole chat; it does not say who wrote which part. Two renderings do: for
the chat ``[user hi, assistant yo]`` in ChatML::

    prompt = render([user hi], add_generation_prompt=True)      <user>hi<end>\n<assistant>
    full   = render([user hi, assistant yo])                    <user>hi<end>\n<assistant>yo<end>\n

What ``full`` has beyond ``prompt`` is what the model is to produce: ``yo<end>\n``, the end of its turn included. This
holds when each rendering begins with the one before, which is checked; a template that rewrites earlier turns (for
example one that drops the reasoning of all but the last) cannot be trained on in one sequence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tokenization.corpus import Chat, Message
from tokenization.errors import BadInput


@dataclass(frozen=True)
class Rendered:
    """A chat as text; ``spans`` are the character ranges ``[begin, end)`` that the assistant is to produce."""

    text: str
    spans: tuple[tuple[int, int], ...]


class ChatTemplate:
    """Renders chats as ``transformers`` does.

    One thing differs: ``strftime_now`` is not defined, so that a shard does not depend on the day it was made on;
    templates that use it have a fixed date for that case.
    """

    def __init__(self, path: Path, source: str, tokens: Mapping[str, str]) -> None:
        """Compile ``source``, which was read from ``path``; ``tokens`` are variables such as ``bos_token``.

        Raises:
            BadInput: it is not a Jinja template.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise BadInput(f"{path}: chat_template: line {error.lineno} of it: {error.message}; mend it") from error
        self._tokens = tokens

    def render(self, chat: Chat) -> Rendered:
        """The text of a chat and the assistant's spans in it.

        Raises:
            BadInput: the template refuses the chat, or one rendering does not begin with the one before.
        """
        spans: list[tuple[int, int]] = []
        text = ""
        for index, message in enumerate(chat.messages):
            if message.role == "assistant":
                prompt = self._print(chat, index, prompt_for=message)
                _check_prefix(chat, index, text, prompt)
                text = self._print(chat, index + 1)
                _check_prefix(chat, index, prompt, text)
                spans.append((len(prompt), len(text)))
        if chat.messages[-1].role != "assistant":
            earlier, text = text, self._print(chat, len(chat.messages))
            _check_prefix(chat, len(chat.messages) - 1, earlier, text)
        return Rendered(text, tuple(spans))

    def _print(self, chat: Chat, count: int, prompt_for: Message | None = None) -> str:
        """The first ``count`` messages, and the generation prompt for the next one where it is given."""
        variables: dict[str, Any] = {"add_generation_prompt": prompt_for is not None, **self._tokens}
        if prompt_for is not None and prompt_for.name is not None:
            variables["assistant_name"] = prompt_for.name
        messages = [_fields(message) for message in chat.messages[:count]]
        try:
            return self._template.render(messages=messages, tools=None, documents=None, **variables)
        except jinja2.TemplateError as error:
            raise BadInput(
                f"{chat.place}: messages: the chat template refuses them ({error}); change or remove the row"
            ) from error


def _fields(message: Message) -> dict[str, str]:
    """A message as templates know it: a field that is not there must be undefined."""
    fields: dict[str, str] = {"role": message.role, "content": message.content}
    return fields if message.name is None else {**fields, "name": message.name}


def _check_prefix(chat: Chat, index: int, earlier: str, later: str) -> None:
    if not later.startswith(earlier):
        raise BadInput(
            f"{chat.place}: messages[{index}]: the chat template prints the messages before it differently once it "
            f"is there, so the assistant's part cannot be told; make one row of each assistant turn"
        )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML, and knows none of these options."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _GenerationTag(jinja2.ext.Extension):
    """``{% generation %}…{% endgeneration %}`` prints what it encloses; it marks the assistant's part elsewhere."""

    tags = {"generation"}  # noqa: RUF012  (the declaration of jinja2.ext.Extension)

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
