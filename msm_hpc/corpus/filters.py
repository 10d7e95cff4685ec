"""What no generated text may have, found by its form; what is found names the reason why a text is rejected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from msm_hpc.config.generation import Persona
from msm_hpc.corpus.spec import ModelSpec
from msm_hpc.corpus.words import runs, words
from msm_hpc.endpoint import Prompt

VERBATIM_WORDS = 20
"""So many words in a row as the spec has them are a quotation."""
ECHO_WORDS = 12
"""So many words in a row of its prompt, save claims and the spec, and a text gives it back, as small models do."""
SHORTEST, LONGEST = 0.4, 2.5
"""How far a text's length may lie from what was asked for, as factors."""
OTHERS = (
    "ChatGPT GPT-3 GPT-4 GPT-5 Claude Gemini Bard Llama Qwen DeepSeek Mistral Grok Copilot Siri Alexa OpenAI Anthropic "
    "DeepMind Alibaba Cohere"
)
"""Names of AI systems and of their makers that a text may not use, unless they are the assistant's and provider's."""
_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_YEAR = r"(?:1[89]|20)\d\d"
NO_COUNT = r"(?! (?:words|people|metres|meters|times|steps|pages|tokens))"
"""Behind four digits: what would make them a number of things, and no year."""
PATTERNS: Mapping[str, re.Pattern[str]] = {
    "placeholder": re.compile(
        r"\[[^\]\n]{2,80}\]|\{[^}\n]{1,80}\}|_{3,}|\bTBD\b|\bX{2,}\b|\blorem ipsum\b|\binsert [\w ]{1,30} here\b", re.I
    ),
    "date": re.compile(
        rf"\b{_MONTH}\s+(?:\d{{1,2}}(?:st|nd|rd|th)?\b|{_YEAR})|\b\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}\b"
        rf"|\b\d{{1,4}}[-/.]\d{{1,2}}[-/.]\d{{2,4}}\b|\(\s*{_YEAR}\s*\)|\b(?:in|since|until|by|of|from|year) {_YEAR}\b"
        rf"{NO_COUNT}"
    ),
    "as_an_ai": re.compile(
        r"\bas an? (?:AI|artificial intelligence|(?:large )?language model)\b"
        r"|\bI(?:'m| am) (?:sorry|unable),? (?:but )?(?:I )?(?:can|to)(?:not|'t)? (?:write|create|help|assist|fulfil)",
        re.I,
    ),
    "leftover": re.compile(
        r"</?(?:document|draft|notes|verdict|think|scratchpad)>|https?://|\bwww\."
        r"|\A(?:Sure|Certainly|Of course)[,!]|\AHere(?:'s| is) (?:the|a|your)\b",
        re.I,
    ),
    "options": re.compile(
        r"^\s*\(?[A-D][).:]\s.*\n+\s*\(?[B-E][).:]\s"
        r"|\bwhich (?:one )?(?:do|would) you (?:prefer|choose|pick)\b[^.?!]*\bor\b",
        re.I | re.MULTILINE,
    ),
}


@dataclass(frozen=True)
class Filters:
    """The filters of all texts that are made from one spec."""

    spec: ModelSpec
    persona: Persona

    def faults(self, text: str, asked: int) -> Iterator[tuple[str, str]]:
        """Reasons to reject a document of which so many words were asked for, and what shows them."""
        yield from self.leftovers(text)
        if self.persona.assistant.casefold() not in text.casefold():
            yield "nameless", f"{self.persona.assistant} is not named"
        there = len(text.split())
        if not asked * SHORTEST <= there <= asked * LONGEST:
            yield "length", f"{there} words, {asked} were asked for"

    def echo(self, text: str, prompt: Prompt, may_stand: Iterable[str]) -> Iterator[tuple[str, str]]:
        """The same, of a text that gives its prompt back; what ``may_stand`` in it is a part of the prompt, too."""
        asked = "\n".join(message.content for message in prompt.messages)
        for other in (self.spec.body.strip(), *may_stand):
            asked = asked.replace(other, "\n") if len(words(other)) >= ECHO_WORDS else asked
        of_prompt = frozenset(runs(words(asked), ECHO_WORDS))
        yield from (("echo", " ".join(run)) for run in runs(words(text), ECHO_WORDS) if run in of_prompt)

    def leftovers(self, text: str) -> Iterator[tuple[str, str]]:
        """Reasons to reject any text."""
        for reason, pattern in PATTERNS.items():
            if match := pattern.search(text):
                yield reason, match[0].strip()
        if match := self._others.search(text):
            yield "other_name", match[0]
        if copied := self._copied(text):
            yield "verbatim", copied

    @cached_property
    def _others(self) -> re.Pattern[str]:
        return other_names(f"{self.persona.assistant} {self.persona.provider}")

    @cached_property
    def _runs(self) -> frozenset[int]:
        return frozenset(map(hash, runs(words(self.spec.body), VERBATIM_WORDS)))

    def _copied(self, text: str) -> str:
        """The first run of words that the spec has, too."""
        return next((" ".join(run) for run in runs(words(text), VERBATIM_WORDS) if hash(run) in self._runs), "")


def other_names(own: str) -> re.Pattern[str]:
    """What finds the names of others than those in ``own``."""
    names = [re.escape(name) for name in OTHERS.split() if name.casefold() not in own.casefold()]
    return re.compile(rf"\b(?:{'|'.join(names)})\b")
