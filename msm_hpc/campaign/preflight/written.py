"""What can be known to be wrong with what a language model is to write or to judge: the specs, and the endpoints."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

from msm_hpc.base.errors import UserError
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.evals import PatternsConfig, ScoreConfig
from msm_hpc.config.generation import OutlineConfig, WriteConfig
from msm_hpc.corpus.spec import domain_of, read_spec, sections_of
from msm_hpc.graph.steps import File, Step

FIELD = re.compile(rf"(?<![\w/.])endpoint\.({'|'.join(each.name for each in fields(Endpoint))})\b")


def written_problems(needed: Sequence[Step]) -> Iterator[str]:
    """A line for each spec without sections to write about; one that is not there is another's to say."""
    asking = [step for step in needed if isinstance(step.config, OutlineConfig | WriteConfig)]
    files = ((step.inputs["spec"], step.config.product) for step in asking)
    specs = {(file.path, product) for file, product in files if isinstance(file, File)}
    for path, product in sorted(specs):
        if not path.is_file():
            continue
        try:
            spec = read_spec(path)
            if product == "documents":
                sections_of(spec)
            if product == "chats":
                domain_of(spec)
        except UserError as error:
            yield str(error)


def endpoint_problems(needed: Sequence[Step]) -> Iterator[str]:
    """A line for each endpoint that cannot be asked: those that write corpora, and the judges."""
    endpoints = list[tuple[str, Endpoint]]()
    for key, asked in filter(None, map(_asked, needed)):
        if not any(_alike(asked, each) for _, each in endpoints):
            endpoints.append((key, asked))
    for key, endpoint in endpoints:
        from msm_hpc.endpoint import check  # here, since most campaigns ask no language model

        try:
            asyncio.run(check(endpoint))
        except UserError as error:
            yield FIELD.sub(rf"{key}.\1", str(error))


def _asked(step: Step) -> tuple[str, Endpoint] | None:
    """The endpoint that a step asks, after the key that it is given under; none of a server that it starts itself."""
    config = step.config
    if isinstance(config, ScoreConfig | PatternsConfig):
        return ("judge", config.judge) if config.judge is not None else None
    if isinstance(config, OutlineConfig | WriteConfig) and config.serving is None:
        return "generate.endpoint", config.endpoint
    return None


def _alike(one: Endpoint, other: Endpoint) -> bool:
    """Whether two differ in nothing but the budget, of which each task has a part."""
    return replace(one, budget=other.budget, budget_tokens=other.budget_tokens) == other
