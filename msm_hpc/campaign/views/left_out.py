"""What was left out of the rows that a campaign was given, in words, with where the rows are listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.report.left_out import LeftOut
from msm_hpc.report.results import Results
from msm_hpc.store.store import Store


def left_out(results: Results, graph: Graph, store: Store) -> tuple[str, ...]:
    """A line for each corpus of which rows were skipped, or chats too long for a packed sequence."""
    steps = {step.id: step for step in graph.steps if step.kind == "pack"}
    lines = (line for each in results.left_out for line in _lines(each, steps[each.step], results, store))
    return tuple(dict.fromkeys(lines))


def _lines(found: LeftOut, pack: Step, results: Results, store: Store) -> Iterator[str]:
    source = f"{found.model}: {found.source}" if results.several_models else found.source
    shards = pack.inputs["shards"]
    assert isinstance(shards, Mapping)
    tokenized = shards[found.source]
    assert isinstance(tokenized, Step)
    if found.skipped:
        skipped = f"{sum(found.skipped.values()):,} of {found.rows:,} rows were skipped ({found.reasons})"
        yield f"{source}: {skipped}; {store.of(tokenized).out} lists them (rejected.jsonl)"
    if found.too_long:
        yield (
            f"{source}: {found.too_long:,} of {found.sequences:,} {found.unit} are longer than sequence_length "
            f"{found.sequence_length} and were left out"
        )
