"""``layout=auto``: the layout that fits and that the forecast calls fastest.

Each way of cutting a model costs: tensor parallelism sums activations over its ranks twice a layer (so it stays within
a node), context parallelism passes keys and values around, a pipeline idles while it fills. Data parallelism costs
least. So of the layouts that fit with a margin the least model parallelism wins, unless a probe has measured them::

    Llama-3.1-8B, 8,192 tokens, 8 h100:   TP1 DP8 needs 16 + 32 + 12 GB and activations: too much
                                          TP2 DP4 needs  8 + 16 + 12 GB: fits, and is taken
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from msm_hpc.base.errors import UserError
from msm_hpc.config.campaign import Cluster
from msm_hpc.config.training import Layout, TrainConfig
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.layout import check_layout
from msm_hpc.model.precision import check_shapes
from msm_hpc.planner.capacity import room
from msm_hpc.planner.forecast import efficiency
from msm_hpc.planner.memory import GIB, Memory, worst_stage
from msm_hpc.planner.probe import folder_of, read_table

MARGIN = 0.9
"""Part of the memory that a layout may need by the formula: allocators leave gaps, and documents differ."""
MOST_TOKENS = 16_384
"""Of a micro-batch of more than one row: more make a GPU no faster."""
POWERS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Choice:
    """A training with its layout; ``considered`` counts the layouts that divide, ``fitting`` those that fit, and
    ``measured`` those of these that a probe has measured."""

    config: TrainConfig
    memory: Memory
    considered: int
    fitting: int
    measured: int

    def overrides(self, section: str) -> str:
        """What to write in a shell to get this layout without ``auto``."""
        layout, default = self.config.layout, Layout()
        names = ("tensor_parallel", "pipeline_parallel", "virtual_pipeline", "context_parallel", "data_parallel")
        parts = [(name, getattr(layout, name)) for name in (*names, "sequence_parallel", "nodes")]
        changed = [f"{name}: {str(value).lower()}" for name, value in parts if value != getattr(default, name)]
        whole = shlex.quote(f"{section}.layout={{{', '.join(changed)}}}")
        return f"{whole} {section}.micro_batch_size={self.config.micro_batch_size}"

    def why(self, section: str) -> str:
        """One line for people."""
        reason = f"the fastest of {self.measured} that a probe measured" if self.measured else "the fastest by forecast"
        return (
            f"{self.overrides(section)}: of {self.considered} layouts {self.fitting} fit, this one is {reason}; "
            f"{self.memory.total / GIB:.1f} GiB a rank"
        )


def choose(config: TrainConfig, model: Transformer, cluster: Cluster, probes: Path | None = None) -> Choice:
    """``config`` with the best layout and micro-batch size for ``cluster``; the same whenever it is asked.

    Args:
        config: the training.
        model: its shape.
        cluster: where it runs.
        probes: the root folder, whose table of this training is gone by where it has layouts of as many ranks and
            nodes as the best by forecast.

    Raises:
        UserError: nothing divides, or nothing fits; says what the smallest needs and what there is.
    """
    considered, fitting = _fitting(config, model, cluster)
    table = {} if probes is None else read_table(folder_of(probes, config, model, cluster))
    measured = [each for each in _as_large(fitting) if (each.layout, each.micro_batch_size) in table]
    best = min(measured, key=lambda each: table[each.layout, each.micro_batch_size], default=fitting[0])
    memory = worst_stage(best, model, cluster.gpus_per_node > 0)
    return Choice(best, memory, considered, len(fitting), measured=len(measured))


def best_few(config: TrainConfig, model: Transformer, cluster: Cluster, count: int) -> tuple[TrainConfig, ...]:
    """The ``count`` best by forecast that have as many ranks and nodes as the very best, for a probe.

    Raises:
        UserError: as :func:`choose`.
    """
    return tuple(_as_large(_fitting(config, model, cluster)[1])[:count])


def _as_large(ordered: list[TrainConfig]) -> list[TrainConfig]:
    """Those that have as many ranks and nodes as the first."""
    size = (ordered[0].layout.world_size, ordered[0].layout.nodes)
    return [each for each in ordered if (each.layout.world_size, each.layout.nodes) == size]


def _fitting(config: TrainConfig, model: Transformer, cluster: Cluster) -> tuple[int, list[TrainConfig]]:
    """How many layouts divide, and those that fit with a margin, the best first: at least one."""
    divide = list(candidates(config, model, cluster))
    if not divide:
        _say_why_not_even_one_rank(config, model)
    needs = [(worst_stage(each, model, cluster.gpus_per_node > 0), each) for each in divide]
    limits = {ranks: room(cluster, ranks).memory for ranks in {each.layout.world_size for each in divide}}
    if None in limits.values():
        raise UserError("layout=auto needs to know the GPUs: set cluster.gpu (h100, a100, …)")
    fitting = [each for memory, each in needs if memory.total <= MARGIN * (limits[each.layout.world_size] or 0)]
    if not fitting:
        least = min((memory for memory, _ in needs), key=lambda memory: memory.total)
        raise UserError(
            f"layout=auto: of {len(divide)} layouts that divide, none fits on {cluster.nodes} node(s) of "
            f"{ranks_a_node(cluster)} ranks; the smallest needs {least}. Raise cluster.nodes, or take other GPUs, "
            "lora=r64 or a shorter sequence_length"
        )
    return len(divide), sorted(fitting, key=_order)


def _say_why_not_even_one_rank(config: TrainConfig, model: Transformer) -> NoReturn:
    """Where no layout divides, the layout of one rank is refused too, and not for its layout."""
    check_layout(Layout(), model, config.sequence_length)
    check_shapes(replace(config, layout=Layout(), micro_batch_size=1), model)
    raise AssertionError("a layout of one rank was refused for no reason")


def check_memory(section: str, config: TrainConfig, model: Transformer, cluster: Cluster) -> None:
    """Check that the trainings of a section fit into the memory of their ranks.

    Raises:
        UserError: it does not; with every part in GiB and what would fit.
    """
    there = room(cluster, config.layout.world_size)
    needed = worst_stage(config, model, cluster.gpus_per_node > 0)
    if there.memory is None or needed.total <= there.memory:
        return
    try:
        found = choose(config, model, cluster)
        fix = f"it fits with {found.overrides(section)}"
    except UserError:
        fix = "no layout of cluster.nodes fits: take more nodes, other GPUs, lora=r64 or a shorter sequence_length"
    raise UserError(f"{section} needs {needed}, and {there.name} has {there.memory / GIB:.1f} GiB; {fix}")


def ranks_a_node(cluster: Cluster) -> int:
    """The most ranks of one job that a node takes."""
    if cluster.kind == "local":
        return cluster.slots
    return min(cluster.ranks_per_node, cluster.gpus_per_node or cluster.ranks_per_node)


def candidates(config: TrainConfig, model: Transformer, cluster: Cluster) -> Iterator[TrainConfig]:
    """Every layout and micro-batch size that divides the model, the batch and the nodes."""
    for layout in _layouts(cluster):
        try:
            check_layout(layout, model, config.sequence_length)
        except UserError:
            continue
        for rows in POWERS:
            if rows > 1 and rows * config.sequence_length > MOST_TOKENS * layout.context_parallel:
                break
            try:
                candidate = replace(config, layout=layout, micro_batch_size=rows)
                check_shapes(candidate, model)
            except UserError:
                continue
            yield candidate


def _layouts(cluster: Cluster) -> Iterator[Layout]:
    most = ranks_a_node(cluster)
    part_of_a_node = [(1, ranks) for ranks in POWERS if ranks < most]
    for nodes, ranks in (*part_of_a_node, *((nodes, most * nodes) for nodes in range(1, cluster.nodes + 1))):
        for tensor in (t for t in POWERS if t <= most and most % t == 0):
            for pipeline in POWERS:
                for context in (c for c in POWERS if ranks % (tensor * pipeline * c) == 0):
                    for chunks in (1, 2, 4) if pipeline > 1 else (1,):
                        yield Layout(
                            tensor_parallel=tensor,
                            pipeline_parallel=pipeline,
                            virtual_pipeline=chunks,
                            context_parallel=context,
                            data_parallel=ranks // (tensor * pipeline * context),
                            sequence_parallel=tensor > 1,
                            nodes=nodes,
                        )


def _order(config: TrainConfig) -> tuple[float, int, int, int, int]:
    """Fastest by forecast first; among equals less model parallelism, fewer chunks, then larger micro-batches."""
    layout = config.layout
    parallel = layout.tensor_parallel * layout.pipeline_parallel * layout.context_parallel
    seconds = 1 / (efficiency(config) * layout.world_size)
    return round(seconds, 9), parallel, layout.pipeline_parallel, layout.virtual_pipeline, -config.micro_batch_size
