"""The model alone, on one rank, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from msm_hpc.config.training import InitialSpread, Layout, Precision
from msm_hpc.model.architecture import Transformer, read_architecture
from msm_hpc.training.data.batch import MicroBatch, micro_batch
from msm_hpc.training.megatron.groups import process_groups
from tests.training.toy import Corpus, write_inputs, write_model
from tokenization.packing.plan import Piece, Plan
from tokenization.shards import Shard


@pytest.fixture(autouse=True)
def one_rank() -> Iterator[None]:
    with process_groups(Layout()):
        yield


def _model(
    llama: Transformer,
    seed: int = 3,
    precision: Precision = "fp32",
    spread: InitialSpread = "initializer_range",
) -> torch.nn.Module:
    from msm_hpc.training.checkpoints.initial import initialise
    from msm_hpc.training.megatron.model import build_model, transformer_config

    (model,) = chunks = build_model(llama, transformer_config(llama, Layout(), precision))
    initialise(chunks, seed, spread=spread)
    assert isinstance(model, torch.nn.Module)
    return model


def _losses(model: torch.nn.Module, batch: MicroBatch) -> torch.Tensor:
    from msm_hpc.training.step import token_losses

    return token_losses(model, batch)[0]


class OneDocument:
    """A plan with one document in each row, each row as long as the document."""

    pad_id = 1

    def __init__(self, piece: Piece) -> None:
        self.piece, self.sequence_length = piece, piece.length

    def __len__(self) -> int:
        return 1

    def row(self, index: int) -> list[Piece]:
        return [self.piece]


def test_packed_losses_are_those_of_each_document_alone(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, Corpus(documents=20))
    plan, shards = Plan(inputs.plan), {"chats/0": Shard(inputs.shards["chats"])}
    model = _model(read_architecture(inputs.model))
    packed = _losses(model, micro_batch(plan, shards, range(len(plan))))
    checked = 0
    for row in range(len(plan)):
        begin = row * plan.sequence_length
        for piece in plan.row(row):
            alone = _losses(model, micro_batch(OneDocument(piece), shards, [0]))
            together = packed[begin : begin + piece.length]
            torch.testing.assert_close(together[:-1], alone[:-1], rtol=0, atol=1e-5)
            begin += piece.length
            checked += 1
    assert checked == 20


def test_the_fused_swiglu_of_gpus_computes_the_same(tmp_path: Path) -> None:
    """Uncompiled here: that it needs no bias, and that its own backward pass is the derivative."""
    from megatron.core.transformer.mlp import MLP

    inputs = write_inputs(tmp_path, Corpus(documents=20))
    plan, shards = Plan(inputs.plan), {"chats/0": Shard(inputs.shards["chats"])}
    model = _model(read_architecture(inputs.model))
    config: Any = model.config
    batch = micro_batch(plan, shards, [0, 1])
    results = []
    for fused in (False, True):
        if fused:
            config.bias_activation_fusion, config.use_te_activation_func = True, False
            for part in [part for part in model.modules() if isinstance(part, MLP)]:
                del part.activation_func  # a module, where GPUs have a function
                part.activation_func = config.activation_func
        losses = _losses(model, batch)
        gradients = torch.autograd.grad(losses.sum(), list(model.parameters()))
        results.append((losses, *gradients))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-5)


def test_the_fused_cross_entropy_of_gpus_computes_the_same(tmp_path: Path) -> None:
    """Uncompiled here, in bf16, over a vocabulary whose padding has logits of -inf."""
    inputs = write_inputs(tmp_path, Corpus(documents=20))
    plan, shards = Plan(inputs.plan), {"chats/0": Shard(inputs.shards["chats"])}
    model = _model(read_architecture(inputs.model), precision="bf16")
    config: Any = model.config
    batch = micro_batch(plan, shards, [0, 1])
    results = []
    for fused in (False, True):
        config.cross_entropy_loss_fusion = fused
        losses = _losses(model, batch)
        results.append((losses, *torch.autograd.grad(losses.sum(), list(model.parameters()))))
    assert all(result.isfinite().all() for result in results[1])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def test_initial_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    llama = read_architecture(write_model(tmp_path / "model"))
    torch.manual_seed(1)
    first = _model(llama).state_dict()
    torch.manual_seed(2)
    again, other = _model(llama).state_dict(), _model(llama, seed=4).state_dict()
    key = "decoder.layers.1.mlp.linear_fc1.weight"
    assert torch.equal(first[key], again[key]) and not torch.equal(first[key], other[key])
    assert first[key].std().item() == pytest.approx(0.02, rel=0.1)
    assert first["decoder.layers.1.mlp.linear_fc2.weight"].std().item() == pytest.approx(0.02 / 8**0.5, rel=0.1)
    assert torch.equal(first["decoder.final_layernorm.weight"], torch.ones(32))


def test_initial_weights_may_be_spread_by_what_each_row_sums_over(tmp_path: Path) -> None:
    llama = read_architecture(write_model(tmp_path / "model", architectures=["Qwen2ForCausalLM"]))
    model, usual = _model(llama, spread="fan_in").state_dict(), _model(llama).state_dict()
    layer, layers = "decoder.layers.1", 4
    spreads = {
        f"{layer}.self_attention.linear_qkv.weight": 32**-0.5,
        f"{layer}.self_attention.linear_proj.weight": 32**-0.5 / (2 * layers) ** 0.5,
        f"{layer}.mlp.linear_fc1.weight": 32**-0.5,
        f"{layer}.mlp.linear_fc2.weight": 48**-0.5 / (2 * layers) ** 0.5,
        "output_layer.weight": 32**-0.5,
    }
    for key, spread in spreads.items():
        assert model[key].std().item() == pytest.approx(spread, rel=0.1), key
    others = {key for key, value in model.items() if isinstance(value, torch.Tensor)} - spreads.keys()
    others = {key for key in others if layer in key or "layers." not in key}
    assert {"embedding.word_embeddings.weight", f"{layer}.self_attention.linear_qkv.bias"} < others
    assert all(torch.equal(model[key], usual[key]) for key in others)


def test_cuda_calls_answer_for_the_cpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU: nothing is redirected")
    from msm_hpc.training.megatron import cpu

    assert str(torch.cuda.current_device()) == "cpu"
    with cpu.redirected():
        assert torch.zeros(2, device="cuda").device.type == "cpu"
    assert str(torch.cuda.current_device()) == "cpu", "an inner one leaves the outer one open"


def test_tied_embeddings_have_no_output_layer(tmp_path: Path) -> None:
    from msm_hpc.training.checkpoints.initial import local_tensors

    tied = _model(read_architecture(write_model(tmp_path / "tied", tie_word_embeddings=True)))
    shapes = {tensor.key: tensor.global_shape for tensor in local_tensors([tied])}
    assert shapes == {
        "embedding.word_embeddings.weight": (256, 32),
        "decoder.layers.self_attention.linear_qkv.layer_norm_weight": (4, 32),
        "decoder.layers.self_attention.linear_qkv.weight": (4, (4 + 2 * 2) * 8, 32),
        "decoder.layers.self_attention.linear_proj.weight": (4, 32, 4 * 8),
        "decoder.layers.mlp.linear_fc1.layer_norm_weight": (4, 32),
        "decoder.layers.mlp.linear_fc1.weight": (4, 2 * 48, 32),
        "decoder.layers.mlp.linear_fc2.weight": (4, 32, 48),
        "decoder.final_layernorm.weight": (32,),
    }


def test_biases_and_head_norms_of_the_qwens(tmp_path: Path) -> None:
    from msm_hpc.training.checkpoints.initial import local_tensors

    def tensors(family: str) -> dict[str, torch.Tensor]:
        model = _model(read_architecture(write_model(tmp_path / family, architectures=[family], head_dim=12)))
        return {
            tensor.key.removeprefix("decoder.layers.self_attention."): tensor.data for tensor in local_tensors([model])
        }

    qwen2, qwen3 = tensors("Qwen2ForCausalLM"), tensors("Qwen3ForCausalLM")
    assert torch.equal(qwen2["linear_qkv.bias"], torch.zeros((4 + 2 * 2) * 12))
    assert "linear_qkv.bias" not in qwen3
    for norm in ("q_layernorm.weight", "k_layernorm.weight"):
        assert torch.equal(qwen3[norm], torch.ones(12))
        assert norm not in qwen2
