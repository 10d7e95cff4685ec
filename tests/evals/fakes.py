"""Fakes: a model that is asked and a judge, which say what a test has them say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from msm_hpc import endpoint
from msm_hpc.base.scores import Score, read_scores
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.evals import SampleConfig, ScoreConfig
from msm_hpc.config.serving import Serving
from msm_hpc.endpoint import Prompt, Reject, Reply
from msm_hpc.endpoint.prompts import Result
from msm_hpc.endpoint.streams import Prompts, each_of
from msm_hpc.evals import sampling

MODEL = Endpoint(model="a-fake-model")
JUDGE = Endpoint(model="TEST JUDGE, and no model")
Says = Callable[[Prompt], str | dict[str, Any] | Result]


class Fake:
    """An engine whose model says ``says(prompt)``; ``asked`` has all prompts."""

    def __init__(self, says: Says) -> None:
        self.says = says
        self.asked: list[Prompt] = []

    async def ask(self, prompts: Prompts) -> AsyncIterator[tuple[Prompt, Result]]:
        async for prompt in each_of(prompts):
            self.asked.append(prompt)
            said = self.says(prompt)
            if isinstance(said, Reply | Reject):
                yield prompt, said
            else:
                text = said if isinstance(said, str) else json.dumps(said)
                yield prompt, Reply(text, "stop", "fake", 10, len(text.split()))


def use(monkeypatch: pytest.MonkeyPatch, says: Says) -> Fake:
    """Let stages ask a fake."""
    fake = Fake(says)

    @asynccontextmanager
    async def opened(where: Endpoint, folder: Path) -> AsyncIterator[Fake]:
        folder.mkdir(exist_ok=True)
        yield fake

    monkeypatch.setattr(endpoint, "opened", opened)
    serve(monkeypatch, MODEL)
    return fake


def serve(monkeypatch: pytest.MonkeyPatch, model: Endpoint) -> None:
    """Let sample stages ask ``model`` in the place of a trained one."""

    @contextmanager
    def served(*_: object) -> Iterator[Endpoint]:
        yield model

    monkeypatch.setattr(sampling, "served", served)


def asking(task: str, **changes: Any) -> SampleConfig:
    fields = {"samples": 1, "temperature": 0.7, "max_tokens": 100, "agent": "Nimbus", "scratchpad": True}
    return SampleConfig(**{"task": task, "prompts": "p", "serving": Serving(), **fields, **changes})


def scoring(task: str, **changes: Any) -> ScoreConfig:
    return ScoreConfig(**{"eval": task, "task": task, "samples": 1, "judge": JUDGE, "prompts": "abc", **changes})


def made(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def scores_in(folder: Path) -> list[Score]:
    return [Score(**row) for row in read_scores(folder).to_pylist()]


def marks(folder: Path, item: str, sample: int = 0) -> dict[str, float | str | None]:
    """What an item's sample is marked with, by metric."""
    return {
        score.metric: score.missing or score.value
        for score in scores_in(folder)
        if (score.item, score.sample) == (item, sample)
    }
