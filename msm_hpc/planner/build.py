"""Models built by Megatron as ranks of a training build them, without memory, weights, GPUs or the other ranks.

Process groups are torch's fakes, whose ranks are only numbers, and so are tensors, which have a shape and nothing in
it: a 32B model on 64 ranks is built in seconds. What Megatron refuses then, it would refuse on the cluster.

::

    python -m msm_hpc.planner.build <<< '[{"training": …, "model": …}]'      # a line for each that can be built
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from msm_hpc.base.typed_json import adapter
from msm_hpc.config.training import Layout, TrainConfig
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.precision import RECIPES


@dataclass(frozen=True)
class Build:
    """A training as far as its model depends on it."""

    training: TrainConfig
    model: Transformer


BUILDS = tuple[Build, ...]


def main() -> None:
    """Build each that standard input has, in their order; the first that cannot be built ends this with its error."""
    for number, each in enumerate(adapter(BUILDS).validate_json(sys.stdin.read())):
        for rank in sorted({0, each.training.layout.world_size - 1}):
            build(each, rank)
        print(number, flush=True)


def build(each: Build, rank: int) -> None:
    """Build the part of the model that a rank has; an FP8 that only GPUs have is left out, as that part is checked."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from msm_hpc.training.megatron import cpu

    config, model = each.training, each.model
    with cpu.redirected(), _fake_groups(config.layout, rank), FakeTensorMode(allow_non_fake_inputs=True):
        from msm_hpc.training.megatron.lora import adapt
        from msm_hpc.training.megatron.model import build_model, transformer_config

        on_gpus = RECIPES[config.precision].quantised and not config.fp8_emulated
        megatron = transformer_config(model, config.layout, "bf16" if on_gpus else config.precision)
        megatron.use_cpu_initialization = True  # the other way looks into a generator's state, which a fake has none of
        chunks = build_model(model, megatron)
        if config.lora is not None:
            adapt(chunks, model, config.lora)


@contextmanager
def _fake_groups(layout: Layout, rank: int) -> Iterator[None]:
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed
    from torch import distributed
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=layout.world_size)
    try:
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=layout.tensor_parallel,
            pipeline_model_parallel_size=layout.pipeline_parallel,
            virtual_pipeline_model_parallel_size=layout.virtual_pipeline if layout.virtual_pipeline > 1 else None,
            context_parallel_size=layout.context_parallel,
            create_gloo_process_groups=False,
        )
        model_parallel_cuda_manual_seed(0, force_reset_rng=True)
        yield
    finally:
        parallel_state.destroy_model_parallel()
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
