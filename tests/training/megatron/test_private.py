"""The contract with megatron-core: each thing of it that no release promises, by name.

To try a release before it is installed: unpack its wheel and put the folder first in ``PYTHONPATH``.
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import torch

from msm_hpc.config.training import Layout
from msm_hpc.training.megatron.groups import process_groups
from msm_hpc.training.watch import hangs

WRITER = "megatron.core.dist_checkpointing.strategies.filesystem_async"
BUFFERS = "megatron.core.distributed.param_and_grad_buffer"
RANDOM = "megatron.core.tensor_parallel.random"
OPTIMIZER = "megatron.core.optimizer"
ROPE = "megatron.core.models.common.embeddings.rope_utils"
LAYERS = "megatron.core.tensor_parallel.layers"
CLIP = "megatron.core.optimizer.clip_grads"
FINALIZE = "megatron.core.distributed.finalize_model_grads"
DISTRIBUTED = "megatron.core.optimizer.distrib_optimizer"


@pytest.fixture(autouse=True)
def one_rank() -> Iterator[None]:
    with process_groups(Layout()):
        yield


def found(path: str) -> Any:
    """What ``module:name.name`` is in the installed megatron-core."""
    module, _, names = path.partition(":")
    value: Any = importlib.import_module(module)
    for name in names.split("."):
        assert hasattr(value, name), f"megatron-core has no {path} any more"
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(
    ("variable", "user"),
    [
        (f"{WRITER}:_results_queue", f"{WRITER}:_get_write_results_queue"),
        (f"{BUFFERS}:dist_all_gather_func", BUFFERS),
        (f"{BUFFERS}:dist_reduce_scatter_func", BUFFERS),
        (f"{RANDOM}:_set_cuda_rng_state", RANDOM),
        ("megatron.core.transformer.transformer_block:te_checkpoint", "megatron.core.transformer.transformer_block"),
        ("megatron.core.extensions.transformer_engine:te_checkpoint", "megatron.core.transformer.transformer_layer"),
        (f"{OPTIMIZER}:Adam", OPTIMIZER),
        (f"{OPTIMIZER}:USING_PYTORCH_OPTIMIZER", OPTIMIZER),
        (f"{DISTRIBUTED}:Adam", f"{DISTRIBUTED}:DistributedOptimizer"),
        (f"{DISTRIBUTED}:HAVE_APEX_OR_TE", f"{DISTRIBUTED}:DistributedOptimizer"),
        (f"{DISTRIBUTED}:USING_APEX_OPTIMIZER", f"{DISTRIBUTED}:DistributedOptimizer"),
        (f"{ROPE}:_apply_rotary_pos_emb_thd", f"{ROPE}:apply_rotary_pos_emb"),
        (f"{LAYERS}:linear_with_grad_accumulation_and_async_allreduce", f"{LAYERS}:ColumnParallelLinear"),
        (f"{LAYERS}:copy_to_tensor_model_parallel_region", f"{LAYERS}:ColumnParallelLinear"),
        (f"{LAYERS}:reduce_from_tensor_model_parallel_region", f"{LAYERS}:RowParallelLinear"),
        (f"{CLIP}:l2_norm_impl", f"{CLIP}:get_grad_norm_fp32"),
        (f"{CLIP}:multi_tensor_scale_impl", f"{CLIP}:clip_grad_by_total_norm_fp32"),
        (f"{CLIP}:to_local_if_dtensor", f"{CLIP}:get_grad_norm_fp32"),
        (f"{FINALIZE}:reset_model_temporary_tensors", FINALIZE),
    ],
)
def test_a_module_variable_that_we_replace_is_there_and_read_by_that_name(variable: str, user: str) -> None:
    found(variable)
    name = variable.rpartition(":")[2]
    reader = found(user) if ":" in user else importlib.import_module(user)
    uses = re.findall(rf"(?<![\w.]){name}\b(?! *=[^=])", inspect.getsource(reader))
    assert uses, f"{user} does not read {variable} any more"


@pytest.mark.parametrize(
    ("function", "positional", "keywords"),
    [
        (
            f"{WRITER}:FileSystemWriterAsync.write_preloaded_data",
            ["transform_list", "local_proc_idx", "write_bucket", "results_queue", "count_queue"],
            {"use_fsync"},
        ),
        (
            f"{WRITER}:FileSystemWriterAsync.write_preloaded_data_multiproc",
            ["transform_list", "use_msc", "rank", "write_buckets", "global_results_queue"],
            set(),
        ),
        (
            "megatron.core.dist_checkpointing.strategies.torch:TorchDistSaveShardedStrategy.__init__",
            ["self", "backend", "version"],
            {"thread_count"},
        ),
    ],
)
def test_a_function_that_we_call_by_position_has_its_parameters(
    function: str, positional: list[str], keywords: set[str]
) -> None:
    parameters = list(inspect.signature(found(function)).parameters)
    assert parameters[: len(positional)] == positional, function
    assert keywords <= set(parameters), function


def test_an_asynchronous_save_is_planned_as_a_partial_and_three_arguments(tmp_path: Path) -> None:
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy

    importlib.import_module(WRITER)._results_queue = Queue()
    strategy = TorchDistSaveShardedStrategy("torch_dist", 1, thread_count=1)
    request = dist_checkpointing.save(sharded(), str(tmp_path), strategy, async_sharded_save=True)
    assert len(request.async_fn.args) == 2, "AsyncRequest.async_fn is a partial of transforms and use_msc"
    assert len(request.async_fn_args) == 3, "AsyncRequest.async_fn_args are rank, buckets and results"
    assert isinstance(request.async_fn_args[2], Queue)
    (bucket,) = request.preload_fn()
    assert [type(part) for part in bucket] == [str, str, tuple], "a bucket is path, name, (bytes, tensors)"


def test_a_planned_save_is_written_by_us_and_read_by_megatron(tmp_path: Path) -> None:
    from megatron.core import dist_checkpointing

    from msm_hpc.training.megatron import private

    written: list[Path] = []
    plan = private.plan_save(sharded(), tmp_path, written.append)
    assert plan.write is not None
    plan.write()
    assert written == list(tmp_path.glob("*.distcp"))
    for finalize in plan.finalize:
        finalize()
    for name in private.INDEX_FILES:
        assert (tmp_path / name).is_file(), f"a torch_dist checkpoint has no {name} any more"
    loaded = dist_checkpointing.load(sharded(value=0.0), str(tmp_path))
    assert torch.equal(loaded["tensor"], torch.ones(4)) and loaded["number"] == 5


def sharded(value: float = 1.0) -> dict[str, Any]:
    from megatron.core.dist_checkpointing import ShardedTensor

    return {"tensor": ShardedTensor.from_rank_offsets("tensor", torch.full((4,), value)), "number": 5}


@pytest.mark.parametrize("key", ["distrib_optim_sharding_type", "fully_reshardable", "chained_optim_avoid_prefix"])
def test_a_key_of_the_optimizers_checkpoint_is_known(key: str) -> None:
    places = (f"{DISTRIBUTED}:DistributedOptimizer", "megatron.core.optimizer.optimizer:ChainedOptimizer")
    assert any(key in inspect.getsource(found(place)) for place in places), f"megatron-core does not read {key!r}"


def test_the_warning_that_we_filter_is_given_as_we_expect_it() -> None:
    from msm_hpc.training.megatron import private

    assert private.STATE_CHANGED in inspect.getsource(importlib.import_module(RANDOM))


@pytest.mark.parametrize("kind", ["ColumnParallelLinear", "RowParallelLinear"])
def test_a_linear_layer_leaves_its_product_to_forward_impl_and_returns_output_and_bias(kind: str) -> None:
    from megatron.core import tensor_parallel
    from megatron.core.transformer.transformer_config import TransformerConfig

    from msm_hpc.training.megatron import private

    class Doubled(private.LinearProduct, getattr(tensor_parallel, kind)):  # type: ignore[misc]
        def product(self, input_: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            return 2 * torch.nn.functional.linear(input_, weight)

    config = TransformerConfig(num_layers=1, hidden_size=4, num_attention_heads=1, use_cpu_initialization=True)
    own = {"gather_output": False} if kind == "ColumnParallelLinear" else {"input_is_parallel": True}
    common = {"config": config, "init_method": torch.nn.init.ones_, "bias": False, "skip_bias_add": False}
    linear = Doubled(4, 4, **common, **own)
    output = linear(torch.ones(3, 1, 4))
    assert isinstance(output, tuple) and len(output) == 2, f"{kind} returns (output, bias)"
    assert torch.equal(output[0], torch.full((3, 1, 4), 8.0)), f"{kind}.forward calls _forward_impl"
    private.change_output(linear, lambda input_, output: output + input_)
    assert torch.equal(linear(torch.ones(3, 1, 4))[0], torch.full((3, 1, 4), 9.0))


def test_modules_of_the_first_micro_batch_are_marked_by_is_first_microbatch() -> None:
    from megatron.core.transformer.module import MegatronModule
    from megatron.core.transformer.transformer_config import TransformerConfig

    module = MegatronModule(TransformerConfig(num_layers=1, hidden_size=4, num_attention_heads=1, fp8="hybrid"))
    module.inner = torch.nn.Identity()
    module.inner.is_first_microbatch = False
    module.set_is_first_microbatch()
    assert module.inner.is_first_microbatch is True


def test_an_optimizer_step_returns_success_norm_and_zeros(tmp_path: Path) -> None:
    from msm_hpc.config.training import TrainConfig, TrainInputs
    from msm_hpc.model.architecture import read_architecture
    from msm_hpc.training import stage
    from msm_hpc.training.megatron import private
    from msm_hpc.training.megatron.adam import FusedAdam
    from tests.training.toy import write_model

    folder = write_model(tmp_path / "model")
    inputs = TrainInputs(model=folder, plan=tmp_path, shards={})
    trainable = stage.build(TrainConfig(sequence_length=32), read_architecture(folder), inputs, steps=1)
    trainable.wrapped[0].zero_grad_buffer()
    assert isinstance(trainable.optimizer.chained_optimizers[0].optimizer, FusedAdam)
    assert math.isfinite(private.update(trainable.optimizer))


@pytest.mark.parametrize(
    "part",
    [
        "input_layernorm",
        "pre_mlp_layernorm",
        "mlp.submodules.activation_func",
        "mlp.submodules.linear_fc1",
        "mlp.submodules.linear_fc2",
        "self_attention.submodules.core_attention",
        "self_attention.submodules.q_layernorm",
        "self_attention.submodules.k_layernorm",
        "self_attention.submodules.linear_qkv",
        "self_attention.submodules.linear_proj",
    ],
)
def test_a_part_of_a_layer_that_we_replace_is_in_megatrons_spec(part: str) -> None:
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec

    value: Any = get_gpt_layer_local_spec(normalization="RMSNorm").submodules
    for name in part.split("."):
        assert hasattr(value, name), f"the spec of a layer has no {part}"
        value = getattr(value, name)


@pytest.mark.parametrize("module", [name for name in hangs._WAITING if name.startswith("megatron.")])
def test_a_module_in_which_ranks_wait_is_there(module: str) -> None:
    importlib.import_module(module)
