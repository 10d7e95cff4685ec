"""What can be known to be wrong with what a language model is to write: the specs, and the endpoint that is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

from msm_hpc.base.errors import UserError
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.generation import OutlineConfig, WriteConfig
from msm_hpc.corpus.spec import domain_of, read_spec, sections_of
from msm_hpc.graph.steps import File, Step


def written_problems(needed: Sequence[Step]) -> Iterator[str]:
    """A line for each spec without sections to write about."""
    asking = [step for step in needed if isinstance(step.config, OutlineConfig | WriteConfig)]
    files = ((step.inputs["spec"], step.config.product) for step in asking)
    specs = {(file.path, product) for file, product in files if isinstance(file, File)}
    for path, product in sorted(specs):
        try:
            spec = read_spec(path)
            if product == "documents":
                sections_of(spec)
            if product == "chats":
                domain_of(spec)
        except UserError as error:
            yield str(error)


def endpoint_problems(needed: Sequence[Step]) -> Iterator[str]:
    """A line for each endpoint that cannot be asked."""
    endpoints = list[Endpoint]()
    for step in (step for step in needed if isinstance(step.config, OutlineConfig | WriteConfig)):
        if not any(_alike(step.config.endpoint, each) for each in endpoints):
            endpoints.append(step.config.endpoint)
    for endpoint in endpoints:
        from msm_hpc.endpoint import check  # here, since most campaigns ask no language model

        try:
            asyncio.run(check(endpoint))
        except UserError as error:
            yield str(error)


def _alike(one: Endpoint, other: Endpoint) -> bool:
    """Whether two differ in nothing but the budget, of which each task has a part."""
    return replace(one, budget=other.budget, budget_tokens=other.budget_tokens) == other
