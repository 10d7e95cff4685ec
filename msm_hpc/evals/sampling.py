"""The sample stage: a trained model is asked every item as often as the eval says, and what it replies is kept.

``out`` has ``items.jsonl`` (each item with the opening that all of its samples share), ``replies.jsonl`` (a line for
each sample: what followed, how it ended), ``summary.json`` (:class:`Summary`) and ``_replies``, which an attempt that
resumes takes over: nothing that was answered is asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from msm_hpc import endpoint
from msm_hpc.base.files import atomic, write_json, write_jsonl
from msm_hpc.base.notices import read_notices, write_notices
from msm_hpc.base.progress import ProgressFile
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.evals import GatherRepliesInputs, SampleConfig, SampleInputs
from msm_hpc.endpoint import Message, Prompt, Reject
from msm_hpc.endpoint.resuming import REPLIES as RESUMED
from msm_hpc.endpoint.scripts import Script, play
from msm_hpc.evals.checked import checked
from msm_hpc.evals.tasks.known import asked_task
from msm_hpc.evals.tasks.task import ITEMS, REPLIES, AskedTask, Item, Transcript, Turn, Wording, opened, sample_id
from msm_hpc.evals.texts import spec_turn
from msm_hpc.serving import served
from msm_hpc.serving.device import Device, device

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Posed:
    """An item as it is asked: what every sample begins with, and the user turns that follow replies."""

    item: Item
    opening: tuple[Message, ...]
    later: tuple[Message, ...]


@dataclass(frozen=True)
class Summary:
    """What asking took, for the forecast of other steps.

    Attributes:
        prompt_tokens: of all requests, of earlier attempts too.
        reply_tokens: likewise.
        new_reply_tokens: those of this attempt.
        seconds: of this attempt, without ``seconds_to_load``.
    """

    samples: int
    prompt_tokens: int
    reply_tokens: int
    new_reply_tokens: int
    seconds: float
    seconds_to_load: float
    device: Device


def run(config: SampleConfig, inputs: SampleInputs, out: Path) -> None:
    """Ask share ``config.share``.

    Raises:
        UserError: the model cannot be served, pairs or the spec cannot be read, or not all was answered.
    """
    task = asked_task(config.task, inputs.pairs, most=config.items)
    wording = Wording(config.agent, config.scratchpad, spec_turn(inputs.spec))
    posed = [Posed(item, opened(task, item, wording), task.later(item, wording)) for item in task.items]
    wanted = [(each, sample) for each in posed for sample in range(config.samples)]
    first, last = (len(wanted) * share // config.shares for share in (config.share, config.share + 1))
    scripts = (conversation(task, each, sample, config) for each, sample in wanted[first:last])
    progress = ProgressFile(out, last - first, "samples")
    with contextlib.ExitStack() as stack:
        with progress.timing("load"):
            model = stack.enter_context(served(config.serving, inputs.model, inputs.adapter))
        before, began = _tokens(out), time.monotonic()
        asyncio.run(_ask(model, scripts, progress, out))
        seconds = time.monotonic() - began
    write_jsonl(
        out / ITEMS,
        ({"id": each.item.id, "group": each.item.group, "messages": [*map(asdict, each.opening)]} for each in posed),
    )
    prompts, replies = _tokens(out)
    load, new = progress.seconds["load"], replies - before[1]
    write_json(out / SUMMARY, asdict(Summary(last - first, prompts, replies, new, seconds, load, device())))
    write_notices(out, read_notices(inputs.model, inputs.adapter))


def _tokens(out: Path) -> tuple[int, int]:
    """Tokens of prompts and of replies, of all requests so far."""
    spent = endpoint.spent(out / RESUMED).values()
    return sum(each.prompt_tokens for each in spent), sum(each.completion_tokens for each in spent)


async def _ask(model: Endpoint, scripts: Iterable[Script[Transcript]], progress: ProgressFile, out: Path) -> None:
    """Write what the scripts return, in their order."""
    with atomic(out / REPLIES) as file:
        async with checked(model, out / RESUMED) as engine:
            done = 0
            async for transcript in play(engine, scripts):
                file.write(orjson.dumps(transcript) + b"\n")
                done += 1
                progress.update(done)


def conversation(task: AskedTask, posed: Posed, sample: int, config: SampleConfig) -> Script[Transcript]:
    """One sample of an item, turn by turn, until there are no more turns or the task says that it is over."""
    item, later = posed.item, iter(posed.later)
    said: list[Message] = []
    finish, tokens, detail = "stop", 0, ""
    while True:
        result = yield Prompt(
            messages=(*posed.opening, *said),
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            sample=sample,
        )
        tokens += result.completion_tokens
        if isinstance(result, Reject):
            # A model that thought until its tokens were used up was cut, like one that spoke until then.
            finish, detail = "length" if result.reason == "truncated" else result.reason, result.detail
            break
        said.append(Message("assistant", result.text))
        finish = "length" if "length" in (finish, result.finish) else "stop"
        turn = next(later, None)
        if turn is None or task.over(item, result.text):
            break
        said.append(turn)
    turns = tuple(Turn(each.role, each.content) for each in said)
    return Transcript(sample_id(item.id, sample), item.id, item.group, sample, turns, finish, tokens, detail)


def gather(config: SampleConfig, inputs: GatherRepliesInputs, out: Path) -> None:
    """The replies of all shares, end to end."""
    with atomic(out / REPLIES) as file:
        for folder in inputs.shares:
            file.write((folder / REPLIES).read_bytes())
    with atomic(out / ITEMS) as file:
        file.write((inputs.shares[0] / ITEMS).read_bytes())
    write_notices(out, read_notices(*inputs.shares))
