"""A model's own chat template: a Jinja program that prints a chat as text.

It runs as in ``transformers``. A template is a program, so it may look into what it prints: Qwen3's looks for
``</think>`` in a message and drops what stands before it (see :mod:`.tracing`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from msm_hpc.base.errors import UserError

E = TypeVar("E", bound=jinja2.Environment)
_REFUSALS = (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError)


THE_DAY = datetime(2024, 7, 26)
"""The day that Llama 3.1's template falls back to."""


_A_DAY = re.compile(r"""strftime_now\(\s*(["'])([^"'\\]*)\1\s*\)""")


class TemplateRefuses(Exception):
    """The template cannot print these messages; the message is the template's."""


class ChatTemplate:
    """A compiled chat template.

    One thing differs from ``transformers``: a shard must not depend on the day it was made on. So ``strftime_now`` is
    not defined, and a template that asks whether it is takes its own fixed date; for one that does not ask it is
    :data:`THE_DAY`.

    Attributes:
        source: its text.
    """

    def __init__(self, path: Path, source: str, tokens: Mapping[str, str]) -> None:
        """Compile ``source``, which was read from ``path``; ``tokens`` are variables such as ``bos_token``.

        Raises:
            UserError: it is not a Jinja template.
        """
        self.source, self._path, self._tokens = source, path, tokens
        try:
            self._template = self.environment(ImmutableSandboxedEnvironment).from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"{path}: chat_template: line {error.lineno} of it: {error.message}; fix it") from error

    def environment(self, kind: type[E]) -> E:
        """What templates are compiled in, of some kind."""
        environment = kind(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, jinja2.ext.loopcontrols])
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        if not self._asks_for_the_day:
            environment.globals["strftime_now"] = THE_DAY.strftime
        return environment

    @property
    def _asks_for_the_day(self) -> bool:
        return re.search(r"strftime_now\s+is\s+(not\s+)?defined", self.source) is not None

    def with_the_day(self) -> str:
        """Its source for programs that define ``strftime_now`` as today: printed there, a chat is what it is here.

        Raises:
            UserError: it asks for the day in a way that cannot be replaced.
        """
        if self._asks_for_the_day:
            return "{% set strftime_now = nothing_of_this_name %}\n" + self.source
        source = _A_DAY.sub(lambda call: f'"{THE_DAY.strftime(call[2])}"', self.source)
        if "strftime_now" in source:
            raise UserError(
                f"{self._path}: chat_template: asks for the day by strftime_now and not with a text for its format, so "
                "that it cannot be fixed for another server; write the day itself"
            )
        return source

    def print(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None,
        prompt: bool = False,
        speaker: str | None = None,
    ) -> str:
        """The text of a chat.

        Args:
            messages: each with ``role``, ``content`` and what else templates know; a field not given is undefined.
            tools: JSON schemas of the tools that may be called.
            prompt: end with the beginning of an assistant's turn.
            speaker: the name of the assistant then, which templates know as ``assistant_name``.

        Raises:
            TemplateRefuses: it does not take these messages.
        """
        text: str = self.run(self._template, messages, tools, prompt, speaker)
        return text

    def begins(self, text: str, start: str) -> bool:
        """Whether a printed ``text`` begins with ``start``."""
        return text.startswith(start)

    def run(
        self,
        compiled: jinja2.Template,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None,
        prompt: bool,
        speaker: str | None,
    ) -> Any:
        """What ``compiled``, this template, prints in its environment; see :meth:`print`."""
        variables: dict[str, Any] = {"add_generation_prompt": prompt, **self._tokens}
        if speaker is not None:
            variables["assistant_name"] = speaker
        try:
            return compiled.render(messages=messages, tools=tools, documents=None, **variables)
        except _REFUSALS as error:
            raise TemplateRefuses(str(error)) from error


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

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
