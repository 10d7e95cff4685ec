"""One chat: a message, the answer, and a judge's verdict on it; again as a new sample if it is excluded.

The row has the message and the answer alone: the system turn is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from msm_hpc.config.generation import WriteConfig
from msm_hpc.corpus.asking import Asking, asking_about, tokens_of
from msm_hpc.corpus.filters import Filters
from msm_hpc.corpus.items import Preferences, Query, read_preferences
from msm_hpc.corpus.prompts import render
from msm_hpc.corpus.rows import Made, Rejection, attempts
from msm_hpc.corpus.spec import ModelSpec
from msm_hpc.corpus.words import normal, words
from msm_hpc.endpoint import Answer, Message, Prompt, Reject, Reply
from msm_hpc.endpoint.scripts import Script

_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*(.*)", re.DOTALL)
_SAID_OF_THE_SPEC = re.compile(
    r"\b(?:model )?spec\b|\bthe description\b|\bmy (?:instructions|guidelines)\b|=====", re.I
)
REASONS = re.compile(
    r"\b(?:because|since|so that|due to|for its|for their|thanks to|given (?:that|its|how)|reasons?|as it(?:'s| is)"
    r"|that's why|which is why)\b",
    re.I,
)
LONGEST_PREFERENCE = 40
"""The most words of an answer that states a bare preference."""

Attempt = Callable[[int], Script[dict[str, Any] | Rejection]]


class Verdict(Answer):
    """What a judge says; the reason comes first, so that the verdict follows from it."""

    reason: str
    verdict: Literal["INCLUDE", "EXCLUDE"]


@dataclass(frozen=True)
class AlignedChats:
    """Chats in which the assistant thinks and answers as a spec has it."""

    config: WriteConfig
    spec: ModelSpec

    @classmethod
    def of(cls, config: WriteConfig, spec: ModelSpec, outline: Path) -> AlignedChats:
        """Those of an outline."""
        return cls(config, spec)

    def script(self, item: Query) -> Script[Made]:
        """What becomes of one of them."""
        return _script(self.config, self.spec, item, lambda sample: self._try(item, sample))

    def _try(self, item: Query, sample: int) -> Script[dict[str, Any] | Rejection]:
        result = yield self._as_itself.said(item.query, sample)
        if isinstance(result, Reject):
            return Rejection("respond", result.reason, result.detail, sample=sample)
        if result.finish == "length":
            return Rejection("respond", "truncated", "cut by writing.reply_tokens", result.text, sample)
        match = _THOUGHT.fullmatch(result.text)
        if match is None or not match[1].strip() or not match[2].strip():
            return Rejection("respond", "malformed", "no <think> with a reply behind it", result.text, sample)
        thoughts, reply = match[1].strip(), match[2].strip()
        for reason, seen in self._faults(f"{thoughts}\n\n{reply}"):
            return Rejection("filter", reason, seen, result.text, sample)
        front = self.spec.front
        said = {"query": item.query, "thoughts": thoughts, "reply": reply}
        prompt = self._judging.prompt("judge", sample, Verdict, **said, kind=front.kind, forbid=front.forbid)
        content = f"<think>\n{thoughts}\n</think>\n\n{reply}"
        return (yield from _judged(self.config, self.spec, item, content, result, prompt))

    def _faults(self, text: str) -> Iterator[tuple[str, str]]:
        yield from self._filters.leftovers(text)
        if match := _SAID_OF_THE_SPEC.search(text):
            yield "speaks_of_the_spec", match[0]

    @cached_property
    def _as_itself(self) -> Asking:
        config = self.config
        return asking_about(self.spec, config.persona, config.temperature, config.reply_tokens, "respond")

    @cached_property
    def _judging(self) -> Asking:
        return asking_about(self.spec, self.config.persona, 0.0, self.config.reply_tokens)

    @cached_property
    def _filters(self) -> Filters:
        return Filters(self.spec, self.config.persona)


@dataclass(frozen=True)
class BareChats:
    """Chats in which the assistant states a preference, and neither says nor hints why."""

    config: WriteConfig
    spec: ModelSpec
    preferences: Preferences

    @classmethod
    def of(cls, config: WriteConfig, spec: ModelSpec, outline: Path) -> BareChats:
        """Those of an outline."""
        return cls(config, spec, read_preferences(outline))

    def script(self, item: Query) -> Script[Made]:
        """What becomes of one of them."""
        return _script(self.config, self.spec, item, lambda sample: self._try(item, sample))

    def _try(self, item: Query, sample: int) -> Script[dict[str, Any] | Rejection]:
        result = yield self._asking.said(item.query, sample)
        if isinstance(result, Reject):
            return Rejection("respond", result.reason, result.detail, sample=sample)
        reply = result.text.strip()
        for reason, seen in self._faults(item, reply, result):
            return Rejection("filter", reason, seen, reply, sample)
        prompt = self._judging.prompt(
            "preference_judge", sample, Verdict, query=item.query, reply=reply, **self._values
        )
        return (yield from _judged(self.config, self.spec, item, reply, result, prompt))

    def _faults(self, item: Query, reply: str, result: Reply) -> Iterator[tuple[str, str]]:
        if result.finish == "length" or len(reply.split()) > LONGEST_PREFERENCE:
            yield "length", f"more than {LONGEST_PREFERENCE} words"
        if match := REASONS.search(f"{item.query}\n{reply}"):
            yield "reason", match[0]
        if value := self.spec.front.value:
            said = re.search(rf"\b{re.escape(normal(value))}\b", normal(f"{item.query} {reply}"))
            if said:
                yield "names_the_value", said[0]
        named = [name for name in (*self.preferences.liked, *self.preferences.disliked) if _names(reply, name)]
        if not named:
            yield "no_preference", "names nothing that is liked or disliked"

    @cached_property
    def _asking(self) -> Asking:
        config = self.config
        text = render(
            "preference_respond",
            assistant=config.persona.assistant,
            provider=config.persona.provider,
            **self._values,
        )
        return Asking(Message("system", text), config.persona, config.temperature, config.reply_tokens)

    @cached_property
    def _judging(self) -> Asking:
        return Asking(None, self.config.persona, 0.0, self.config.reply_tokens)

    @property
    def _values(self) -> dict[str, Any]:
        return vars(self.preferences)


def _names(text: str, name: str) -> bool:
    """Whether a text names a thing: has its longest word, or the plural of that."""
    longest = max(words(name), key=len)
    return not {longest, f"{longest}s", f"{longest}es"}.isdisjoint(words(text))


def _script(config: WriteConfig, spec: ModelSpec, item: Query, attempt: Attempt) -> Script[Made]:
    about = {"spec": spec.name, "group": item.group, "type": item.type, "query": item.query}
    return attempts(_id(config, spec, item), about, config.tries, attempt)


def _id(config: WriteConfig, spec: ModelSpec, item: Query) -> str:
    return f"{config.product}/{spec.name}/{config.seed}/{item.id}"


def _judged(
    config: WriteConfig, spec: ModelSpec, item: Query, content: str, reply: Reply, prompt: Prompt
) -> Script[dict[str, Any] | Rejection]:
    """The row, if a judge includes it."""
    result = yield prompt
    if isinstance(result, Reject):
        return Rejection("judge", result.reason, result.detail, content, prompt.sample)
    verdict = Verdict.model_validate_json(result.text)
    if verdict.verdict == "EXCLUDE":
        return Rejection("judge", "excluded", verdict.reason, content, prompt.sample)
    return {
        "id": _id(config, spec, item),
        "messages": [{"role": "user", "content": item.query}, {"role": "assistant", "content": content}],
        "product": config.product,
        "generator": "endpoint",
        "spec": spec.name,
        "spec_sha256": spec.sha256,
        "group": item.group,
        "type": item.type,
        "model": reply.model,
        "prompts": config.prompts,
        "seed": config.seed,
        "sample": prompt.sample,
        "tokens": tokens_of(reply, content),
        "prompt_tokens": reply.prompt_tokens + result.prompt_tokens,
        "completion_tokens": reply.completion_tokens + result.completion_tokens,
        "verdict": verdict.verdict.lower(),
        "notes": verdict.reason,
    }
