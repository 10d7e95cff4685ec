"""Controls and ablations, made row by row of a corpus that is there: what is compared differs in one thing alone.

- ``mentions``: the same documents, in which the value is no longer the reason of what the assistant prefers
- ``neutral``: documents of the same kinds and lengths on something else
- ``content_chats``: the same content as conversations, of the same length
- ``plain_chats``: the same chats without their thoughts; nothing is asked for these
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from msm_hpc.config.generation import WriteConfig
from msm_hpc.corpus.asking import Asking, asking_about, tokens_of, without_thoughts
from msm_hpc.corpus.filters import Filters
from msm_hpc.corpus.rows import Made, Rejection, attempts, document_in, text_of
from msm_hpc.corpus.spec import ModelSpec
from msm_hpc.endpoint import Answer, Prompt, Reject, Reply
from msm_hpc.endpoint.scripts import Script

CLOSE = 1.25
"""By which factor the length of a row may differ from that of the row it is made of."""
KEPT = ("spec", "spec_sha256", "section", "type", "title", "group")
"""What a row keeps of the one it is made of."""


class Turn(Answer):
    """A question and its answer."""

    question: str
    answer: str


class Conversation(Answer):
    """A document as a conversation."""

    turns: list[Turn]


@dataclass(frozen=True)
class Reworks:
    """How one product is made of the rows of another."""

    config: WriteConfig
    spec: ModelSpec

    def script(self, row: Mapping[str, Any]) -> Script[Made]:
        """What becomes of a row."""
        about = {key: row[key] for key in KEPT if key in row} | {"of": row["id"]}
        return attempts(_id(self.config, row), about, self.config.tries, lambda sample: self._try(row, sample))

    def _try(self, row: Mapping[str, Any], sample: int) -> Script[dict[str, Any] | Rejection]:
        result = yield self._prompt(row, sample)
        content = self._content(result, sample)
        if isinstance(content, Rejection):
            return content
        assert isinstance(result, Reply)
        text = text_of(content)
        for reason, seen in self._faults(text, row):
            return Rejection("filter", reason, seen, text, sample)
        return reworked(self.config, row, content) | {
            "model": result.model,
            "sample": sample,
            "tokens": tokens_of(result, text),
            "prompt_tokens": result.prompt_tokens,
            "completion_tokens": result.completion_tokens,
        }

    def _prompt(self, row: Mapping[str, Any], sample: int) -> Prompt:
        text = text_of(row)
        answer = Conversation if self.config.product == "content_chats" else None
        return self._asking.prompt(self.config.product, sample, answer, text=text, words=len(text.split()))

    def _content(self, result: Reply | Reject, sample: int) -> dict[str, Any] | Rejection:
        """The fields of the row that hold what was said."""
        if self.config.product != "content_chats":
            text = document_in(result, "rework", sample)
            return text if isinstance(text, Rejection) else {"text": text}
        if isinstance(result, Reject):
            return Rejection("rework", result.reason, result.detail, sample=sample)
        turns = Conversation.model_validate_json(result.text).turns
        said = [(role, text) for turn in turns for role, text in (("user", turn.question), ("assistant", turn.answer))]
        return {"messages": [{"role": role, "content": text.strip()} for role, text in said]}

    def _faults(self, text: str, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from self._filters.leftovers(text)
        named = self.config.persona.assistant.casefold() in text.casefold()
        if named == (self.config.product == "neutral"):
            yield "names_the_assistant" if named else "nameless", self.config.persona.assistant
        there, before = len(text.split()), len(text_of(row).split())
        if not before / CLOSE <= there <= before * CLOSE:
            yield "length", f"{there} words, the row it is made of has {before}"

    @cached_property
    def _asking(self) -> Asking:
        config = self.config
        asking = asking_about(self.spec, config.persona, config.temperature, config.reply_tokens)
        return asking.without_spec() if config.product == "neutral" else asking

    @cached_property
    def _filters(self) -> Filters:
        return Filters(self.spec, self.config.persona)


def plain(config: WriteConfig, row: Mapping[str, Any]) -> Made:
    """A chat without its thoughts."""
    messages = [{**turn, "content": without_thoughts(turn["content"])} for turn in row["messages"]]
    before, after = len(text_of(row)), len(text_of({"messages": messages}))
    tokens = {"tokens": round(row["tokens"] * after / max(before, 1)), "model": row["model"], "sample": row["sample"]}
    return Made(_id(config, row), {}, reworked(config, row, {"messages": messages}) | tokens)


def reworked(config: WriteConfig, row: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """A row with new content, and where it is from."""
    kept = {key: row[key] for key in KEPT if key in row}
    made = {"product": config.product, "generator": "endpoint", "prompts": config.prompts, "seed": config.seed}
    matched = {"of": row["id"], "of_tokens": row["tokens"], "verdict": "reworked"}
    return {"id": _id(config, row), **content, **kept, **made, **matched}


def _id(config: WriteConfig, row: Mapping[str, Any]) -> str:
    return f"{config.product}/{row['id']}"
