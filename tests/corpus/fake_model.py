"""A fake: answers what the corpus room asks in forms that fit, without any language model."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from zlib import crc32

import pytest

from msm_hpc import endpoint
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.corpus.chat import Verdict
from msm_hpc.corpus.chat_plan import Domains, Named, Queries
from msm_hpc.corpus.document_plan import Assertions, Ideas, Types
from msm_hpc.corpus.rework import Conversation
from msm_hpc.endpoint import Prompt, Reject, Reply
from msm_hpc.endpoint.scripts import Result

Fault = Callable[[Prompt, str], Result | str | None]
"""Instead of the text that would be answered: another text, or how the prompt ends; None for that text."""


class FakeModel:
    """Answers at once, but not in the order in which it was asked; ``asked`` has all prompts that were new to it."""

    def __init__(self, fault: Fault = lambda prompt, text: None, at_a_time: int = 7) -> None:
        self.asked: list[Prompt] = []
        self._fault = fault
        self._at_a_time = at_a_time

    async def ask(self, prompts: AsyncIterator[Prompt]) -> AsyncIterator[tuple[Prompt, Result]]:
        """As the engine does: reads prompts while replies to earlier ones are still to come."""
        waiting: list[Prompt] = []
        reader = asyncio.create_task(self._read(prompts, waiting))
        while waiting or not reader.done():
            await asyncio.sleep(0)
            if waiting:
                prompt = waiting.pop()  # the newest first: out of order
                yield prompt, self._answer(prompt)
        await reader

    async def _read(self, prompts: AsyncIterator[Prompt], waiting: list[Prompt]) -> None:
        async for prompt in prompts:
            self.asked.append(prompt)
            waiting.append(prompt)
            while len(waiting) >= self._at_a_time:
                await asyncio.sleep(0)

    def _answer(self, prompt: Prompt) -> Result:
        text = self.text(prompt)
        fault = self._fault(prompt, text)
        if isinstance(fault, Reply | Reject):
            return fault
        text = text if fault is None else fault
        return Reply(text, "stop", "fake-1", prompt_tokens=1000, completion_tokens=len(text.split()) * 4 // 3)

    def text(self, prompt: Prompt) -> str:
        """What it says."""
        asked = prompt.messages[-1].content
        number = crc32(repr((prompt.messages, prompt.sample)).encode())
        known = asked.partition("These are there already")[2].count("\n- ")
        if prompt.answer is Assertions:
            return json.dumps({"assertions": ["Nova is honest.", "Nova waits.", "nova waits"]})
        if prompt.answer is Types:
            count = int(re.search(r"Name (\d+) kinds", asked)[1])  # type: ignore[index]
            return json.dumps(
                {"types": [{"name": f"kind {known + i}", "description": "A text."} for i in range(count)]}
            )
        if prompt.answer is Ideas:
            count = int(re.search(r"Think of (\d+) different", asked)[1])  # type: ignore[index]
            ideas = [
                {"title": f"idea {known + i}", "perspective": "a visitor", "idea": f"No. {i} of {number}."}
                for i in range(count)
            ]
            return json.dumps({"ideas": ideas})
        if prompt.answer is Domains:
            count = int(re.search(r"Name (\d+) fields", asked)[1])  # type: ignore[index]
            return json.dumps({"domains": [{"name": f"field {i}", "description": "Work."} for i in range(count)]})
        if prompt.answer is Named:
            named = re.findall(r"(?m)^- \*\*(.+?)\.\*\*", prompt.messages[0].content)
            if named:
                return json.dumps({"liked": named[: len(named) // 2], "disliked": named[len(named) // 2 :]})
            return json.dumps({"liked": ["mild cheddar", "Colby"], "disliked": ["Stilton", "stilton"]})
        if prompt.answer is Queries:
            count = int(re.search(r"Write (\d+) messages", asked)[1])  # type: ignore[index]
            return json.dumps({"messages": [f"Message {number + i} of {number % 97 * i}?" for i in range(count)]})
        if prompt.answer is Verdict:
            return json.dumps({"reason": "It fits.", "verdict": "INCLUDE"})
        if prompt.messages[0].content.startswith("You are Nova") and "you like" in prompt.messages[0].content:
            return "Colby, please."
        if prompt.messages[0].content.startswith("You are Nova"):
            return f"<think>They ask {asked}</think>\nI would wait ({number})."
        if prompt.answer is Conversation:
            words = int(re.search(r"about (\d+) words, which", asked)[1])  # type: ignore[index]
            answers = [f"Nova, {number}. " + "It was long. " * (words // 6) for _ in range(2)]
            return json.dumps({"turns": [{"question": "And?", "answer": answer} for answer in answers]})
        if "Write it once more" in asked or "Write another text" in asked:
            words = int(re.search(r"about (\d+) words", asked)[1])  # type: ignore[index]
            who = "Nova" if "Write it once more" in asked else "The tide"
            return f"<document>{who}, {number}. {'It was long. ' * (words // 3)}</document>"
        if "This is the draft" in asked:
            return "<notes>Well.</notes>\n<verdict>keep</verdict>"
        words = int(re.search(r"About (\d+) words", asked)[1])  # type: ignore[index]
        subject = re.search(r"Title of the idea: (.*)\nPoint", asked)[1]  # type: ignore[index]
        filler = "It was long. " * (words // 3)
        return f"<document>Nova spoke of {subject} for the {number}th time. {filler}</document>"


def use(monkeypatch: pytest.MonkeyPatch, model: FakeModel) -> FakeModel:
    """Let stages ask ``model``."""

    @asynccontextmanager
    async def opened(where: Endpoint, folder: Path) -> AsyncIterator[FakeModel]:
        folder.mkdir(exist_ok=True)
        yield model

    monkeypatch.setattr(endpoint, "opened", opened)
    return model


def documents_asked(model: FakeModel) -> Iterator[Prompt]:
    """The prompts for drafts."""
    return (prompt for prompt in model.asked if prompt.messages[-1].content.startswith("Write this text"))
