"""The write stage: the documents of an outline, a share of them, or what the shares have written.

``out`` has ``data.jsonl``, ``_rejects.jsonl`` (what was rejected, with the reason and the text), ``_summary.json`` and
``_replies``, which an attempt that resumes takes over: nothing in it is paid for twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.base.progress import ProgressFile
from msm_hpc.config.generation import GatherWrittenInputs, WriteConfig, WriteInputs
from msm_hpc.corpus import endpoint
from msm_hpc.corpus.document import Documents
from msm_hpc.corpus.items import Item, read_items, read_outline
from msm_hpc.corpus.resuming import REPLIES
from msm_hpc.corpus.rows import DATA, REJECTS, RowFiles, read_rows
from msm_hpc.corpus.scripts import play
from msm_hpc.corpus.spec import read_spec


def run(config: WriteConfig, inputs: WriteInputs, out: Path) -> None:
    """Write the documents of task ``config.task``.

    Raises:
        UserError: the endpoint cannot be used, its budget is spent, or no document passed.
    """
    items = share(read_items(inputs.outline), config.task, config.tasks)
    documents = Documents(config, read_spec(inputs.spec), read_outline(inputs.outline))
    asyncio.run(_write(config, documents, items, out))


def share(items: Sequence[Item], task: int, tasks: int) -> Sequence[Item]:
    """The items of task ``task``: those of all tasks, end to end, are the same for every number of tasks."""
    return items[len(items) * task // tasks : len(items) * (task + 1) // tasks]


async def _write(config: WriteConfig, documents: Documents, items: Sequence[Item], out: Path) -> None:
    progress = ProgressFile(out, len(items), "documents")
    with RowFiles(out, _summary(config)) as files:
        async with endpoint.opened(config.endpoint, out / REPLIES) as engine:
            ended = 0
            async for made in play(engine, map(documents.script, items)):
                files.add(made)
                ended += 1
                progress.update(ended)
        if config.tasks == 1:
            _refuse_none(config, files, out)


def gather(config: WriteConfig, inputs: GatherWrittenInputs, out: Path) -> None:
    """What the tasks have written, end to end; a row that says the same as one of another task is rejected.

    Raises:
        UserError: no document passed.
    """
    with RowFiles(out, _summary(config)) as files:
        for folder in inputs.shares:
            for row in read_rows(folder / REJECTS):
                files.reject(row)
            for row in read_rows(folder / DATA):
                files.row(row)
        _refuse_none(config, files, out)


def _summary(config: WriteConfig) -> dict[str, Any]:
    return {"product": config.product, "model": config.endpoint.model, "prompts": config.prompts, "seed": config.seed}


def _refuse_none(config: WriteConfig, files: RowFiles, out: Path) -> None:
    if not files.rows:
        raise UserError(
            f"not one of the {config.product} that {config.endpoint.model} wrote has passed ({files.why}): look at "
            f"{out / REJECTS}, and choose a more capable model, or raise generate.writing.reply_tokens"
        )
