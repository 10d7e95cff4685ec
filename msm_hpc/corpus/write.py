"""The write stage: what an outline plans, a share of it, or what the shares have written.

``out`` has ``data.jsonl``, ``_rejects.jsonl`` (what was rejected, with the reason and the text), ``_summary.json`` and
``_replies``, which an attempt that resumes takes over: nothing in it is paid for twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from msm_hpc import endpoint
from msm_hpc.base.errors import UserError
from msm_hpc.base.progress import ProgressFile
from msm_hpc.config.generation import GatherWrittenInputs, WriteConfig, WriteInputs
from msm_hpc.corpus.chat import AlignedChats, BareChats
from msm_hpc.corpus.document import Documents
from msm_hpc.corpus.items import ITEMS, Item, Query, read_items, share
from msm_hpc.corpus.rework import Reworks, plain
from msm_hpc.corpus.rows import DATA, REJECTS, Made, RowFiles, read_rows
from msm_hpc.corpus.spec import ModelSpec, read_spec
from msm_hpc.endpoint.resuming import REPLIES
from msm_hpc.endpoint.scripts import Script, play
from msm_hpc.serving import asked


class Writes(Protocol):
    """How one product is written: a script for each item of its outline."""

    def script(self, item: Any) -> Script[Made]:
        """What becomes of an item."""
        ...


@dataclass(frozen=True)
class Items:
    """What is to be written: ``count`` items, or rows, of which no more are in memory than are being asked about."""

    each: Iterator[Any]
    count: int


@dataclass(frozen=True)
class _Way:
    """What the items of a product are, and how they are written from a config, a spec and an outline's folder."""

    items: type[Any]
    writes: Callable[[WriteConfig, ModelSpec, Path], Writes]


WAYS: Mapping[str, _Way] = {
    "documents": _Way(Item, Documents.of),
    "chats": _Way(Query, BareChats.of),
    "aligned_chats": _Way(Query, AlignedChats.of),
}


def run(config: WriteConfig, inputs: WriteInputs, out: Path) -> None:
    """Write the share of task ``config.task``.

    Raises:
        UserError: the endpoint cannot be used, its budget is spent, or nothing passed.
    """
    spec = read_spec(inputs.spec)
    if inputs.rows is not None:
        part = share(inputs.rows / DATA, config.task, config.tasks)
        rows = Items(read_rows(inputs.rows / DATA, part), len(part))
        with asked(config.endpoint, config.serving, inputs.model) as there:
            _rework(replace(config, endpoint=there), spec, rows, out)
        return
    assert inputs.outline is not None and config.product in WAYS, "the graph gives one of the two"
    way = WAYS[config.product]
    part = share(inputs.outline / ITEMS, config.task, config.tasks)
    items = Items(read_items(inputs.outline, way.items, part), len(part))
    with asked(config.endpoint, config.serving, inputs.model) as there:
        config = replace(config, endpoint=there)
        asyncio.run(_write(config, way.writes(config, spec, inputs.outline), items, out))


def _rework(config: WriteConfig, spec: ModelSpec, rows: Items, out: Path) -> None:
    if config.product != "plain_chats":
        asyncio.run(_write(config, Reworks(config, spec), rows, out))
        return
    with RowFiles(out, _summary(config)) as files:
        for row in rows.each:
            files.add(plain(config, row))


async def _write(config: WriteConfig, writes: Writes, items: Items, out: Path) -> None:
    progress = ProgressFile(out, items.count, "rows")
    with RowFiles(out, _summary(config)) as files:
        async with endpoint.opened(config.endpoint, out / REPLIES) as engine:
            ended = 0
            async for made in play(engine, map(writes.script, items.each)):
                files.add(made)
                ended += 1
                progress.update(ended)
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
    """Refuse a whole corpus without rows; a share may have none."""
    if not files.rows and config.tasks == 1:
        (out / DATA).unlink()  # the rejects stay, to be looked at
        raise UserError(
            f"not one of the {config.product} of {config.endpoint.model} has passed ({files.why}): look at "
            f"{out / REJECTS}, and choose a more capable model, or raise generate.writing.reply_tokens"
        )
