"""The outline stage: what there is to be written, before any of it is.

It is cheap beside the writing: an idea, or a message that begins a chat, has some fifty tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from msm_hpc import endpoint
from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_json, write_jsonl
from msm_hpc.base.text import few
from msm_hpc.config.generation import OutlineConfig, OutlineInputs, Written
from msm_hpc.corpus import chat_plan, document_plan
from msm_hpc.corpus.asking import Asking, asking_about
from msm_hpc.corpus.items import ITEMS, OUTLINE, REJECTS, Planned, in_turn
from msm_hpc.corpus.spec import ModelSpec, read_spec
from msm_hpc.endpoint.resuming import REPLIES
from msm_hpc.endpoint.scripts import Asks
from msm_hpc.serving import asked

ENOUGH = 0.5
"""The share of what was to be planned below which an outline is no result."""
Plan = Callable[[Asks, Asking, OutlineConfig, ModelSpec, Path], Awaitable[Planned[Any]]]
PLANS: Mapping[Written, Plan] = {
    "documents": document_plan.plan,
    "chats": chat_plan.preferences,
    "aligned_chats": chat_plan.alignment,
}


def run(config: OutlineConfig, inputs: OutlineInputs, out: Path) -> None:
    """Write ``items.jsonl``, ``outline.json`` and ``_rejects.jsonl``; replies are kept in ``_replies``.

    Raises:
        UserError: the spec lacks what the product is made of, the endpoint cannot be used, or most of what was to be
            planned is not there in the end.
    """
    spec = read_spec(inputs.spec)
    with asked(config.endpoint, config.serving, inputs.model) as there:
        planned = asyncio.run(_plan(replace(config, endpoint=there), spec, out))
    write_jsonl(out / REJECTS, map(asdict, planned.lost))
    if planned.found < ENOUGH * planned.wanted:
        reasons = few(sorted({each.reason for each in planned.lost}))
        raise UserError(
            f"{config.endpoint.model} planned {planned.found} of {planned.wanted} {config.product} ({reasons}; listed "
            f"in {out / REJECTS}): ask for fewer, or choose a more capable model"
        )
    write_json(out / OUTLINE, planned.outline)
    write_jsonl(out / ITEMS, map(asdict, in_turn(planned.cells, config.seed)))


async def _plan(config: OutlineConfig, spec: ModelSpec, out: Path) -> Planned[Any]:
    asking = asking_about(spec, config.persona, config.temperature, config.reply_tokens)
    async with endpoint.opened(config.endpoint, out / REPLIES) as engine:
        return await PLANS[config.product](engine, asking, config, spec, out)
