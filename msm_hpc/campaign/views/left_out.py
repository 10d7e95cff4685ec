"""What was left out of the rows that a campaign was given, by the manifests of what was tokenised and packed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.store.store import Store
from tokenization.manifest import read_manifest
from tokenization.shards import shard_folders


def left_out(graph: Graph, store: Store) -> tuple[str, ...]:
    """A line for each corpus of which rows were skipped, or chats too long for a packed sequence; those there are."""
    found: dict[str, None] = {}
    seed = min((step.config.seed for step in graph.steps if step.kind == "pack"), default=0)
    for step in graph.steps:
        if step.kind == "tokenize" and store.done(step):
            found |= dict.fromkeys(_skipped(step, store.of(step).out))
        elif step.kind == "pack" and step.config.seed == seed and store.done(step):
            found |= dict.fromkeys(_too_long(step, store.of(step).out))
    return tuple(found)


def _skipped(step: Step, out: Path) -> Iterator[str]:
    try:
        made = [read_manifest(folder) for folder in shard_folders(out)]
    except UserError:  # damaged or deleted since: not what was asked
        return
    rejected = sum(sum(manifest["rejected"].values()) for manifest in made)
    if rejected:
        rows = rejected + sum(manifest["documents"] + manifest["chats"] for manifest in made)
        yield f"{step.label}: {rejected:,} of {rows:,} rows were skipped; {out} lists them (rejected.jsonl)"


def _too_long(step: Step, out: Path) -> Iterator[str]:
    try:
        manifest = read_manifest(out)
    except UserError:
        return
    for name, source in manifest["sources"].items():
        if dropped := source["dropped"]["documents"]:
            yield (
                f"{name}: {dropped:,} of {source['available']['documents']:,} chats are longer than sequence_length "
                f"{manifest['sequence_length']} and were left out"
            )
