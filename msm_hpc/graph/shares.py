"""Steps that are made in shares: other steps, side by side, that are then gathered.

Where a few shares are left and workers are free, a run splits them again (:mod:`msm_hpc.campaign.splitting`). Such a
share is gathered itself, from shares whose borders are its own and some between, and is the same as made at once::

    write documents ◀── 0 of 4
                    ◀── 1 of 4
                    ◀── 2 of 4 ◀── 4 of 8
                    │          ◀── 5 of 8
                    ◀── 3 of 4
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.evals import SampleConfig
from msm_hpc.config.generation import WriteConfig
from msm_hpc.graph.steps import Step

Split = Callable[[str], int]
"""By a share's id the number of shares that it was split into; 1 where it was not."""


def in_shares(whole: Step, count: int, split: Split) -> Step:
    """``whole``, gathered from ``count`` shares, and these from what each was split into; itself where that is one."""
    if count == 1:
        return whole
    shares = tuple(_share(whole, number, count) for number in range(count))
    return dataclasses.replace(whole, shares=tuple(in_shares(each, split(each.id), split) for each in shares))


def undivided(step: Step) -> Iterator[Step]:
    """What a step is gathered from in the end: its shares, or those that they were split into; or itself."""
    if not step.shares:
        yield step
    for share in step.shares:
        yield from undivided(share)


def _share(whole: Step, number: int, count: int) -> Step:
    return dataclasses.replace(
        whole, label=f"{whole.label}/{number}", config=_part(whole.config, number, count), share_of=whole.id
    )


def _part(config: Any, number: int, count: int) -> Any:
    """Part ``number`` of ``count`` of what a config asks for."""
    which, of = ("share", "shares") if isinstance(config, SampleConfig) else ("task", "tasks")
    place = {which: getattr(config, which) * count + number, of: getattr(config, of) * count}
    if isinstance(config, WriteConfig):
        return dataclasses.replace(config, **place, endpoint=_budget(config.endpoint, count))
    return dataclasses.replace(config, **place)


def _budget(endpoint: Endpoint, count: int) -> Endpoint:
    """The endpoint of one of so many, with its part of what they may all spend."""
    money, tokens = endpoint.budget, endpoint.budget_tokens
    return dataclasses.replace(
        endpoint,
        budget=None if money is None else money / count,
        budget_tokens=None if tokens is None else max(tokens // count, 1),
    )
