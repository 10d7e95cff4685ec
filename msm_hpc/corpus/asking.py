"""What all that is asked has in common: the spec as the system turn, which a server's prefix cache then has."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from msm_hpc.config.generation import Persona
from msm_hpc.corpus.prompts import render
from msm_hpc.corpus.spec import ModelSpec
from msm_hpc.corpus.words import normal
from msm_hpc.endpoint import Answer, Message, Prompt, Reject, Reply
from msm_hpc.endpoint.scripts import Script

T = TypeVar("T")
MORE_ROUNDS = 3
"""How often more things are asked for than it takes if each reply has all that it was asked for."""
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)


@dataclass(frozen=True)
class Asking:
    """How things are asked about one spec; ``system`` is the same for all of them, None without the spec."""

    system: Message | None
    persona: Persona
    temperature: float
    reply_tokens: int

    def prompt(self, template: str, sample: int = 0, answer: type[Answer] | None = None, **values: object) -> Prompt:
        """What ``template`` says, asked for the ``sample``-th time."""
        text = render(template, assistant=self.persona.assistant, provider=self.persona.provider, **values)
        return self.said(text, sample, answer)

    def said(self, text: str, sample: int = 0, answer: type[Answer] | None = None) -> Prompt:
        """``text`` as the user's turn."""
        turns = (Message("user", text),)
        return Prompt(
            messages=(self.system, *turns) if self.system else turns,
            max_tokens=self.reply_tokens,
            temperature=self.temperature,
            sample=sample,
            answer=answer,
        )

    def without_spec(self) -> Asking:
        """Asking without the system turn."""
        return replace(self, system=None)


def asking_about(
    spec: ModelSpec, persona: Persona, temperature: float, reply_tokens: int, template: str = "spec"
) -> Asking:
    """Asking with ``spec`` in the system turn, as ``template`` puts it."""
    text = render(
        template, assistant=persona.assistant, provider=persona.provider, spec=spec.body, forbid=spec.front.forbid
    )
    return Asking(Message("system", text), persona, temperature, reply_tokens)


def without_thoughts(text: str) -> str:
    """A reply without the thoughts that it begins with, of models that show theirs."""
    return _THOUGHTS.sub("", text)


def tagged(text: str, tag: str) -> str | None:
    """What stands between the first ``<tag>`` and the last ``</tag>`` of a text; None where there is no such thing."""
    begin, end = text.find(f"<{tag}>"), text.rfind(f"</{tag}>")
    return text[begin + len(tag) + 2 : end].strip() if 0 <= begin < end else None


def tokens_of(reply: Reply, part: str) -> int:
    """About how many tokens a part of a reply has: by its share of the text."""
    return round(reply.completion_tokens * len(part) / max(len(reply.text), 1))


def collect(
    wanted: int,
    at_once: int,
    prompt: Callable[[int, Sequence[str], int], Prompt],
    read: Callable[[str], Mapping[str, T]],
) -> Script[tuple[dict[str, T], str]]:
    """Ask until ``wanted`` things of different names are there, or a few rounds more than it should take are over.

    Args:
        wanted: how many.
        at_once: how many are asked for in one prompt at most.
        prompt: of how many to ask for, the names known already, and the number of the sample.
        read: the things in a reply, by name.

    Returns:
        What is there, and why it is not more: the reason of the last reject.
    """
    found: dict[str, T] = {}
    known: set[str] = set()
    reason = "too_few"
    for sample in range(math.ceil(wanted / at_once) + MORE_ROUNDS):
        result = yield prompt(min(wanted - len(found), at_once), tuple(found), sample)
        if isinstance(result, Reject):
            reason = result.reason
            continue
        for name, thing in read(result.text).items():
            if len(found) < wanted and normal(name) and normal(name) not in known:
                known.add(normal(name))
                found[name.strip()] = thing
        if len(found) == wanted:
            break
    return found, reason
