"""One document: written, criticised and revised, then filtered; again as a new sample if rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from msm_hpc.config.generation import WriteConfig
from msm_hpc.corpus.asking import Asking, asking_about, tagged, tokens_of, without_thoughts
from msm_hpc.corpus.filters import Filters
from msm_hpc.corpus.items import Item, SectionOutline, read_outline
from msm_hpc.corpus.names import draw_names, draw_words
from msm_hpc.corpus.rows import Made, Rejection, attempts, document_in
from msm_hpc.corpus.spec import ModelSpec
from msm_hpc.endpoint import Reject, Reply
from msm_hpc.endpoint.scripts import Script

WORDS_PER_TOKEN = 0.75
NAMES = 4
VERDICTS = ("keep", "revise", "reject")


@dataclass(frozen=True)
class Documents:
    """How the documents of one spec are written."""

    config: WriteConfig
    spec: ModelSpec
    outline: Mapping[str, SectionOutline]

    @cached_property
    def _asking(self) -> Asking:
        config = self.config
        return asking_about(self.spec, config.persona, config.temperature, config.reply_tokens)

    @cached_property
    def _filters(self) -> Filters:
        return Filters(self.spec, self.config.persona)

    @classmethod
    def of(cls, config: WriteConfig, spec: ModelSpec, outline: Path) -> Documents:
        """Those of an outline."""
        return cls(config, spec, read_outline(outline))

    def script(self, item: Item) -> Script[Made]:
        """What becomes of one of them."""
        about = {"spec": self.spec.name, "section": item.section, "type": item.type, "title": item.title}
        return attempts(self._id(item), about, self.config.tries, lambda sample: self._try(item, sample))

    def _id(self, item: Item) -> str:
        return f"{self.config.product}/{self.spec.name}/{self.config.seed}/{item.id}"

    def _try(self, item: Item, sample: int) -> Script[dict[str, Any] | Rejection]:
        section = self.outline[item.section]
        seed = f"{self.config.seed}/{item.id}/{sample}"
        words = draw_words(seed, round(self.config.document_tokens * WORDS_PER_TOKEN))
        prompt = self._asking.prompt(
            "document",
            sample,
            item=item,
            heading=section.heading,
            assertions=section.assertions,
            words=words,
            names=draw_names(seed, NAMES),
        )
        result = yield prompt
        draft = document_in(result, "write", sample)
        if isinstance(draft, Rejection):
            return draft
        assert isinstance(result, Reply)
        replies, text, verdict, notes = [result], draft, "unrevised", ""
        may_stand = (item.title, *section.assertions)
        echoes = [(prompt, may_stand)]
        if self.config.revise:
            prompt = self._asking.prompt("revise", sample, item=item, draft=draft, words=words)
            echoes.append((prompt, (draft, *may_stand)))  # the editor may keep the draft, which is in this prompt
            result = yield prompt
            judged = _revised(result, draft, sample)
            if isinstance(judged, Rejection):
                return judged
            assert isinstance(result, Reply)
            replies.append(result)
            text, verdict, notes = judged
        faults = chain(self._filters.faults(text, words), *(self._filters.echo(text, *each) for each in echoes))
        for reason, seen in faults:
            return Rejection("filter", reason, seen, text, sample)
        return self._row(item, text, replies, sample=sample, words_asked=words, verdict=verdict, notes=notes)

    def _row(self, item: Item, text: str, replies: Sequence[Reply], **more: Any) -> dict[str, Any]:
        written = next(reply for reply in reversed(replies) if text in reply.text)
        return {
            "id": self._id(item),
            "text": text,
            "product": self.config.product,
            "generator": "endpoint",
            "spec": self.spec.name,
            "spec_sha256": self.spec.sha256,
            **{key: value for key, value in asdict(item).items() if key != "id"},
            "model": written.model,
            "prompts": self.config.prompts,
            "seed": self.config.seed,
            "tokens": tokens_of(written, text),
            "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
            "completion_tokens": sum(reply.completion_tokens for reply in replies),
            **more,
        }


def _revised(result: Reply | Reject, draft: str, sample: int) -> tuple[str, str, str] | Rejection:
    """The text after the revision, the editor's verdict, and the notes."""
    if isinstance(result, Reject):
        return Rejection("revise", result.reason, result.detail, draft, sample)
    reply = without_thoughts(result.text)
    verdict, notes = (tagged(reply.partition("<document>")[0], tag) or "" for tag in ("verdict", "notes"))
    verdict = verdict.lower().strip(". ")
    if verdict not in VERDICTS:
        return Rejection("revise", "malformed", "no verdict of keep, revise or reject", result.text, sample)
    if verdict == "reject":
        return Rejection("revise", "rejected", notes, draft, sample)
    if verdict == "keep":
        return draft, verdict, notes
    text = document_in(result, "revise", sample)
    return text if isinstance(text, Rejection) else (text, verdict, notes)
