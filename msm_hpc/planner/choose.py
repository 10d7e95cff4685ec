"""``layout=auto``: of the layouts that fit, the one with which a campaign's trainings end first by forecast.

Each way of splitting a model costs: tensor parallelism sums activations over its ranks twice a layer (so it stays
within a node), context parallelism exchanges keys and values, a pipeline idles while it fills, and what recomputation
does not keep is computed twice. Data parallelism costs least. So of the layouts that fit with a margin the one with the
least model parallelism wins, unless a probe has measured them; activations are recomputed only where nothing
fits without it::

    Llama-3.1-8B, 8,192 tokens, 8 h100:   TP1 DP8 needs 16 + 32 + 12 GB and activations: too much
                                          TP2 DP4 needs  8 + 16 + 12 GB: fits, and is taken

Of the trainings of a stage of one model, as many as there is room for run side by side, and then the next. Where they
end together with several layouts, that of the fewest ranks is taken: it takes no more GPU-hours, and fewer ranks start.
Llama-3.1-8B with an adapter, 64 trainings on 4 nodes of 8 GPUs; of one on one GPU the time is 1::

    32 GPUs each, one at a time     64 rounds of 1/32, and what TP4 DP8 loses     2.17
     4 GPUs each, 8 at a time        8 rounds of 1/4                              2.00
     1 GPU each, 32 at a time        2 rounds of 1                                2.00, and is taken
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import NoReturn, get_args

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Cluster, Work
from msm_hpc.config.training import ONE_RANK, Layout, Recompute, TrainConfig
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.layout import check_layout, problems
from msm_hpc.model.precision import check_shapes
from msm_hpc.planner.capacity import capacity, ranks_a_node, trainings_at_once
from msm_hpc.planner.forecast import efficiency
from msm_hpc.planner.memory import GIB, Memory, worst_stage
from msm_hpc.planner.probe import folder_of, read_table

MARGIN = 0.9
"""Share of the memory that a layout may need by the formula: allocators leave gaps, and documents differ."""
MOST_TOKENS = 16_384
"""Most tokens of a micro-batch of several rows: more do not make a GPU faster."""
POWERS = (1, 2, 4, 8, 16, 32, 64)
CHUNKS = (1, 2, 4)
"""Model chunks of a pipeline stage."""


@dataclass(frozen=True)
class ChosenLayout:
    """A training with its layout.

    It was chosen for ``runs`` trainings, of which ``at_once`` run side by side. ``considered`` counts the layouts that
    divide, ``fitting`` those of them that fit, and ``measured`` those of these that a probe has measured.
    """

    config: TrainConfig
    memory: Memory
    runs: int
    at_once: int
    considered: int
    fitting: int
    measured: int

    def overrides(self, stage: str) -> str:
        """Shell overrides that give this layout without ``auto``, in backticks, which keep them on a line."""
        values = {item.name: getattr(self.config.layout, item.name) for item in fields(Layout)}
        changed = [
            f"{name}: {str(value).lower()}" for name, value in values.items() if value != getattr(ONE_RANK, name)
        ]
        whole = shlex.quote(f"{stage}.layout={{{', '.join(changed)}}}")
        return f"`{whole} {stage}.micro_batch_size={self.config.micro_batch_size}`"

    def why(self, stage: str) -> str:
        """One line that says what was chosen and why."""
        reason = f"the fastest of {self.measured} that a probe measured" if self.measured else "the fastest by forecast"
        many = f" for {self.runs:,} trainings, {self.at_once:,} at once" if self.runs > 1 else ""
        return (
            f"{self.overrides(stage)}: of {self.considered} layouts {self.fitting} fit, this one is {reason}{many}; "
            f"{self.memory.total / GIB:.1f} GiB a rank"
        )


def choose(
    config: TrainConfig, model: Transformer, cluster: Cluster, work: Work, probes: Path | None = None, runs: int = 1
) -> ChosenLayout:
    """``config`` with the best layout and micro-batch size for ``cluster``; the choice is deterministic.

    Args:
        config: the training.
        model: its shape.
        cluster: where it runs.
        work: what the cluster has resources for.
        probes: the root folder; probe results there override the forecast for layouts of the same size as the best
            by forecast.
        runs: how many trainings like it there are, which share the nodes.

    Raises:
        UserError: nothing divides, or nothing fits; with what the smallest layout needs and what there is.
    """
    considered, fitting = _fitting(config, model, cluster, work, runs)
    table = {} if probes is None else read_table(folder_of(probes, config, model, cluster))
    measured = [each for each in _of_one_size(fitting) if (each.layout, each.micro_batch_size) in table]
    best = min(measured, key=lambda each: table[each.layout, each.micro_batch_size], default=fitting[0])
    memory = worst_stage(best, model, cluster.trains_on_gpus)
    at_once = min(trainings_at_once(cluster, best.layout), runs)
    return ChosenLayout(best, memory, runs, at_once, considered, len(fitting), measured=len(measured))


def best_few(
    config: TrainConfig, model: Transformer, cluster: Cluster, work: Work, count: int, runs: int = 1
) -> tuple[TrainConfig, ...]:
    """The ``count`` best by forecast, for ``runs`` trainings, of those of the same size as the very best: for a probe.

    Raises:
        UserError: as :func:`choose`.
    """
    return tuple(_of_one_size(_fitting(config, model, cluster, work, runs)[1])[:count])


def _of_one_size(ordered: list[TrainConfig]) -> list[TrainConfig]:
    """Those with the same number of ranks and nodes as the first."""
    size = (ordered[0].layout.world_size, ordered[0].layout.nodes)
    return [each for each in ordered if (each.layout.world_size, each.layout.nodes) == size]


def _fitting(
    config: TrainConfig, model: Transformer, cluster: Cluster, work: Work, runs: int
) -> tuple[int, list[TrainConfig]]:
    """How many layouts divide, and those that fit with a margin, the best first: at least one."""
    divide = list(candidates(config, model, cluster))
    if not divide:
        _refuse_one_rank(config, model)
    limits = {ranks: capacity(cluster, ranks, work).memory for ranks in {each.layout.world_size for each in divide}}
    if None in limits.values():
        raise UserError("layout=auto needs the type of the GPUs: set cluster.gpu (h100, a100, …)")

    def fits(config: TrainConfig) -> bool:
        limit = limits[config.layout.world_size] or 0
        return worst_stage(config, model, cluster.trains_on_gpus).total <= MARGIN * limit

    found = (next(filter(fits, _keeping_less(each)), None) for each in divide)
    fitting = [each for each in found if each is not None]
    if not fitting:
        needs = (worst_stage(last, model, cluster.trains_on_gpus) for each in divide for last in _keeping_less(each))
        least = min(needs, key=lambda memory: memory.total)
        raise UserError(
            f"layout=auto: of {len(divide)} layouts that divide, none fits on {_where(cluster)}; the smallest needs "
            f"{least}. {_what_helps(cluster)}"
        )
    return len(divide), sorted(fitting, key=lambda each: _order(each, model, cluster, runs))


def _keeping_less(config: TrainConfig) -> Iterator[TrainConfig]:
    """``config`` with fewer and fewer activations kept, as far as its precision allows."""
    with suppress(UserError):
        for recompute in get_args(Recompute):
            yield replace(config, layout=replace(config.layout, recompute=recompute))


def _refuse_one_rank(config: TrainConfig, model: Transformer) -> NoReturn:
    """Raise why not even one rank is possible: where no layout divides, the reason is not the layout."""
    check_layout(ONE_RANK, model, config.sequence_length)
    check_shapes(replace(config, layout=ONE_RANK, micro_batch_size=1), model)
    raise AssertionError("a layout of one rank was ruled out for no reason")


def check_memory(stage: str, config: TrainConfig, model: Transformer, cluster: Cluster, work: Work) -> None:
    """Check that the trainings of a stage fit into the memory of their ranks.

    Raises:
        UserError: they do not; with every part in GiB and what would fit.
    """
    there = capacity(cluster, config.layout.world_size, work)
    needed = worst_stage(config, model, cluster.trains_on_gpus)
    if there.memory is None or needed.total <= there.memory:
        return
    try:
        found = choose(config, model, cluster, work)
        fix = f"it fits with {found.overrides(stage)}"
    except UserError:
        fix = f"no layout fits on {_where(cluster)}. {_what_helps(cluster)}"
    raise UserError(f"{stage} needs {needed}, and {there.name} has {there.memory / GIB:.1f} GiB; {fix}")


def _where(cluster: Cluster) -> str:
    nodes = f"{cluster.nodes} node(s) of" if launcher_of(cluster).queues else "this machine with"
    return f"{nodes} {ranks_a_node(cluster)} ranks"


def _what_helps(cluster: Cluster) -> str:
    """The fix where nothing fits: on a laptop, to say which cluster is meant."""
    if launcher_of(cluster).queues:
        return "Raise cluster.nodes, or use other GPUs, lora=r64 or a shorter sequence_length"
    return (
        "To plan or rehearse for a cluster, name it: cluster=h200 (an example), or a profile of your own; to train "
        "here, take a smaller model, lora=r64 or a shorter sequence_length"
    )


def candidates(config: TrainConfig, model: Transformer, cluster: Cluster) -> Iterator[TrainConfig]:
    """Every layout and micro-batch size that divides the model, the batch and the nodes."""
    for layout in _layouts(cluster):
        if problems(layout, model, config.sequence_length):
            continue
        most_rows = max(1, MOST_TOKENS * layout.context_parallel // config.sequence_length)
        for rows in (count for count in POWERS if count <= most_rows):
            if (candidate := _valid(config, layout, rows, model)) is not None:
                yield candidate


def _layouts(cluster: Cluster) -> Iterator[Layout]:
    """Every layout on a part of one node or on whole nodes; tensor parallelism stays within a node."""
    most = ranks_a_node(cluster)
    part_of_a_node = [(1, ranks) for ranks in POWERS if ranks < most]
    whole_nodes = [(nodes, most * nodes) for nodes in range(1, cluster.nodes + 1)]
    tensors = [tensor for tensor in POWERS if most % tensor == 0]
    sizes = product((*part_of_a_node, *whole_nodes), tensors, POWERS, POWERS, CHUNKS)
    for (nodes, ranks), tensor, pipeline, context, chunks in sizes:
        data, rest = divmod(ranks, tensor * pipeline * context)
        if rest or (chunks > 1 and pipeline == 1):
            continue
        yield Layout(
            tensor_parallel=tensor,
            pipeline_parallel=pipeline,
            virtual_pipeline=chunks,
            context_parallel=context,
            data_parallel=data,
            sequence_parallel=tensor > 1,
            nodes=nodes,
        )


def _valid(config: TrainConfig, layout: Layout, rows: int, model: Transformer) -> TrainConfig | None:
    """``config`` with ``layout`` and micro-batches of ``rows``; None where the batch or the precision rules it out."""
    try:
        candidate = replace(config, layout=layout, micro_batch_size=rows)
        check_shapes(candidate, model)
    except UserError:
        return None
    return candidate


def _order(config: TrainConfig, model: Transformer, cluster: Cluster, runs: int) -> tuple[float | int, ...]:
    """Those first with which ``runs`` trainings end first by forecast.

    Among equals fewer ranks, less model parallelism, fewer chunks, then larger micro-batches. The time of a start is
    left out: it is not known before one has run, and the trainings of a job share it.
    """
    layout = config.layout
    parallel = layout.tensor_parallel * layout.pipeline_parallel * layout.context_parallel
    rounds = math.ceil(runs / trainings_at_once(cluster, layout))
    seconds = rounds / (efficiency(config, model) * layout.world_size)
    sizes = (layout.world_size, parallel, layout.pipeline_parallel, layout.virtual_pipeline)
    return round(seconds, 9), *sizes, -config.micro_batch_size
