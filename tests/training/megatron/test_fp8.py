"""Emulated FP8 against Transformer Engine's own reference, which runs in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from msm_hpc.config.stages import ExportConfig, ExportInputs
from msm_hpc.config.training import Layout, TrainConfig, TrainInputs
from msm_hpc.conversion.stage import run_export
from msm_hpc.training import stage
from msm_hpc.training.megatron.groups import process_groups
from msm_hpc.training.record import records
from tests.training import fp8_ranks
from tests.training.ranks import call_in_ranks
from tests.training.te_answers import Answers, Questions
from tests.training.te_python import FOLDER
from tests.training.toy import Corpus, read_checkpoint, read_metrics, write_inputs, write_model

needs_te = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no Transformer Engine in {FOLDER}; `make test` puts it there (0.7 MB)"
)
CONFIG = TrainConfig(
    sequence_length=32,
    global_batch_size=4,
    micro_batch_size=2,
    learning_rate=1e-2,
    precision="fp8_delayed",
    fp8_emulated=True,
    epochs=2,
    save_every=4,
)


def _python(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _ask(folder: Path, questions: Questions) -> Answers:
    torch.save(questions, folder / "questions.pt")
    _python("tests.training.te_answers", str(folder / "questions.pt"), str(folder / "answers.pt"))
    answers: Answers = torch.load(folder / "answers.pt", weights_only=False)
    return answers


def _tensors() -> list[Tensor]:
    """Ordinary ones, and those at the ends of what a scale can be."""
    ordinary = fp8_ranks.tensor(5, 48, 32)
    special = ordinary.clone()
    special[0, 0], special[1, 1] = torch.inf, torch.nan
    infinite = torch.where(special.isnan(), 0.0, special)
    largest = torch.full_like(ordinary, torch.finfo(torch.bfloat16).max)
    return [ordinary, ordinary * 1e-38, ordinary * 1e-40, ordinary * 1e30, ordinary * 0, special, infinite, largest]


@needs_te
@pytest.mark.slow
def test_rounding_and_layers_on_one_rank_are_the_reference_s_bit_for_bit(tmp_path: Path) -> None:
    formats = (torch.float8_e4m3fn, torch.float8_e5m2)
    tensors = [(tensor, dtype) for tensor in _tensors() for dtype in formats]
    bias = fp8_ranks.tensor(8, 48, 1)[:, 0]
    layer = (fp8_ranks.tensor(6, 32, 64), fp8_ranks.tensor(7, 48, 64), fp8_ranks.tensor(9, 32, 48))
    asked = Questions(tensors=tensors, layers=[(*layer, None), (*layer, bias)])
    answers = _ask(tmp_path, asked)
    with process_groups(Layout()):
        from msm_hpc.training.megatron.fp8 import CurrentScaling

        for (tensor, dtype), (data, inverse) in zip(tensors, answers.tensors, strict=True):
            found = CurrentScaling(dtype)(tensor)
            torch.testing.assert_close(found.inverse, inverse, rtol=0, atol=0, equal_nan=True)
            assert torch.equal(found.data.view(torch.uint8), data)
        for question, expected in zip(asked.layers, answers.layers, strict=True):
            _compare(_emulated_layer(*question), expected)


def _emulated_layer(input_: Tensor, weight: Tensor, gradient: Tensor, bias: Tensor | None) -> list[Tensor | None]:
    from msm_hpc.training.megatron.fp8 import EmulatedColumnParallelLinear

    linear = EmulatedColumnParallelLinear(
        64,
        48,
        config=_megatron("fp8_tensorwise"),
        init_method=torch.nn.init.zeros_,
        bias=bias is not None,
        gather_output=False,
    )
    with torch.no_grad():
        linear.weight.copy_(weight)
        if bias is not None:
            linear.bias.copy_(bias)
    input_ = input_.unsqueeze(1).clone().requires_grad_()
    output, _ = linear(input_)
    output.backward(gradient.unsqueeze(1))
    assert input_.grad is not None
    return [
        output.squeeze(1),
        input_.grad.squeeze(1),
        linear.weight.grad,
        linear.bias.grad if linear.bias is not None else None,
    ]


def _compare(found: Any, expected: Any) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)


def _megatron(precision: Any, **changes: Any) -> Any:
    from msm_hpc.config.stages import Architecture
    from msm_hpc.model.architecture import Transformer
    from msm_hpc.training.megatron.model import transformer_config

    shape = Architecture(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
    )
    return transformer_config(Transformer(shape=shape, vocab_size=128, head_dim=16, **changes), Layout(), precision)


@needs_te
@pytest.mark.slow
def test_a_gpt_trains_with_the_losses_of_transformer_engine_s_layers() -> None:
    found = json.loads(_python("tests.training.te_gpt").splitlines()[-1])
    assert found["emulated"] == found["real"]
    assert found["emulated"] != found["bf16"]
    assert "TEColumnParallelLinear runs outside of Transformer Engine's FP8 context" in found["left"]
    assert (
        "['ColumnParallelLinear', 'RowParallelLinear', 'ColumnParallelLinear', 'RowParallelLinear'] are not"
        in found["local"]
    )


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[fp8_ranks.Seen]:
    """What two tensor-parallel ranks saw."""
    folder = tmp_path_factory.mktemp("fp8")
    write_inputs(folder, intermediate_size=64)
    call_in_ranks(folder, 2, fp8_ranks.look, folder)
    seen: list[fp8_ranks.Seen] = torch.load(folder / "seen.pt", weights_only=False)
    return seen


@needs_te
@pytest.mark.slow
@pytest.mark.xdist_group("fp8_ranks")
def test_tensorwise_layers_on_two_ranks_are_the_reference_s(ranks: list[fp8_ranks.Seen], tmp_path: Path) -> None:
    input_, gradient = fp8_ranks.tensor(2, fp8_ranks.TOKENS, 64), fp8_ranks.tensor(3, fp8_ranks.TOKENS, 96)
    questions = []
    for kind, rank in (("column", 0), ("column", 1), ("row", 0), ("row", 1)):
        weight = next(layer.weight for layer in ranks[rank].layers if layer.kind == kind)
        own_input = input_ if kind == "column" else input_.chunk(2, dim=1)[rank].contiguous()
        own_gradient = gradient.chunk(2, dim=1)[rank].contiguous() if kind == "column" else gradient
        questions.append((own_input, weight, own_gradient, None))
    answers = _ask(tmp_path, Questions(layers=questions)).layers  # type: ignore[arg-type]
    for kind, (first, second) in (("column", answers[:2]), ("row", answers[2:])):
        output, dinput = first[0] + second[0], first[1] + second[1]
        for rank, own in enumerate((first, second)):
            for layer in (layer for layer in ranks[rank].layers if layer.kind == kind):
                cut = (
                    (lambda whole, rank=rank: whole.chunk(2)[rank])
                    if layer.sequence_parallel
                    else (lambda whole: whole)
                )
                expected = (own[0], cut(dinput)) if kind == "column" else (cut(output), own[1])
                _compare((layer.output, layer.input_gradient, layer.weight_gradient), (*expected, own[2]))


@needs_te
@pytest.mark.slow
@pytest.mark.xdist_group("fp8_ranks")
def test_delayed_scales_on_two_ranks_follow_the_reference_s_bookkeeping(
    ranks: list[fp8_ranks.Seen], tmp_path: Path
) -> None:
    pairs = list(zip(*(seen.delayed for seen in ranks), strict=True))
    amaxes = [torch.tensor([one.noted, two.noted]).amax(0) for one, two in pairs]
    asked = Questions(
        length=fp8_ranks.LENGTH, amaxes=[(a, one.dtype) for a, (one, _) in zip(amaxes, pairs, strict=True)]
    )
    for (scales, history), (one, two), noted in zip(_ask(tmp_path, asked).amaxes, pairs, amaxes, strict=True):
        assert len(noted) == fp8_ranks.STEPS * fp8_ranks.MICRO_BATCHES > fp8_ranks.LENGTH
        assert torch.equal(one.state, two.state)
        assert torch.equal(one.state, torch.cat([scales[-1:], history]))
    assert any(one.noted != two.noted for one, two in pairs), "ranks see different tensors"
    weights = [one.noted for one, _ in pairs[1::3]]
    assert all(noted[0] > 0 and noted[1] == 0 for noted in weights), "weights are quantised once a step"
    others = [one.noted for one, _ in (*pairs[::3], *pairs[2::3])]
    assert all(min(noted) > 0 for noted in others), "inputs and gradients in each micro-batch"


@needs_te
@pytest.mark.slow
def test_extreme_amaxes_of_delayed_scaling(tmp_path: Path) -> None:
    sequences = [
        torch.tensor([0.0, 3.0, 0.0, 1.0, 2.0, 0.5, 0.5, 0.5, 0.5]),
        torch.tensor([1e-38, 1e-40, 0.0, 0.0, 0.0, 0.0, 1e38]),
        torch.tensor([1.0, torch.inf, 2.0, 2.0, 2.0, 2.0, 2.0]),
        torch.tensor([1.0, torch.nan, 2.0, 2.0, 2.0, 2.0, 2.0]),
    ]
    formats = (torch.float8_e4m3fn, torch.float8_e5m2)
    asked = Questions(amaxes=[(sequence, dtype) for sequence in sequences for dtype in formats])
    answers = _ask(tmp_path, asked).amaxes
    with process_groups(Layout()):
        from msm_hpc.training.megatron.fp8 import DelayedScaling

        for (amaxes, dtype), (scales, history) in zip(asked.amaxes, answers, strict=True):
            quantiser, found = DelayedScaling(dtype, asked.length), []
            for amax in amaxes:
                quantiser(torch.tensor([[0.0, amax]]))
                quantiser.update()
                found.append(quantiser.state[0].item())
            assert torch.equal(torch.tensor(found), scales)
            torch.testing.assert_close(quantiser.state[1:], history, rtol=0, atol=0, equal_nan=True)


def test_delayed_scaling_saturates() -> None:
    with process_groups(Layout()):
        from msm_hpc.training.megatron.fp8 import DelayedScaling

        for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            largest = torch.finfo(dtype).max
            result = DelayedScaling(dtype, 2)(torch.tensor([[1e6, -1e6, 1.0]]))
            assert result.data.float().tolist() == [[largest, -largest, 1.0]]


@pytest.mark.parametrize(("precision", "kept"), [("fp8_tensorwise", {1, 4}), ("fp8_delayed", set())])
def test_which_layers_stay_in_bf16(tmp_path: Path, precision: Any, kept: set[int]) -> None:
    from msm_hpc.model.architecture import read_architecture

    model = read_architecture(write_model(tmp_path / "model"))
    with process_groups(Layout()):
        from msm_hpc.training.megatron.fp8 import EmulatedColumnParallelLinear, EmulatedRowParallelLinear
        from msm_hpc.training.megatron.model import build_model, transformer_config

        (built,) = build_model(model, transformer_config(model, Layout(), precision))
        assert type(built.output_layer).__name__ == "ColumnParallelLinear"
        for layer in built.decoder.layers:
            linears = (layer.self_attention.linear_qkv, layer.self_attention.linear_proj)
            linears += (layer.mlp.linear_fc1, layer.mlp.linear_fc2)
            emulated = [isinstance(each, EmulatedColumnParallelLinear | EmulatedRowParallelLinear) for each in linears]
            assert emulated == [layer.layer_number not in kept] * 4


@pytest.fixture
def inputs(tmp_path: Path) -> TrainInputs:
    return write_inputs(tmp_path / "inputs", Corpus(documents=60), model_type="llama")


def _run(config: TrainConfig, inputs: TrainInputs, out: Path) -> Path:
    out.mkdir(exist_ok=True)
    stage.run(config, inputs, out)
    return out


@pytest.mark.slow
def test_a_resumed_run_of_delayed_scaling_is_bit_equal(
    tmp_path: Path, inputs: TrainInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_metrics(_run(CONFIG, inputs, tmp_path / "whole"))
    update = records.ProgressFile.update

    class Killed(Exception):
        pass

    def kill(self: Any, done: int) -> None:
        update(self, done)
        if done == 6:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(records.ProgressFile, "update", kill)
        _run(CONFIG, inputs, tmp_path / "resumed")
    resumed = read_metrics(_run(CONFIG, inputs, tmp_path / "resumed"))
    assert [(step.loss, step.grad_norm) for step in resumed] == [(step.loss, step.grad_norm) for step in whole]


@pytest.mark.slow
def test_weights_are_rounded_once_a_step_and_the_rest_in_every_micro_batch(
    tmp_path: Path, inputs: TrainInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounded: list[torch.dtype] = []
    with process_groups(Layout()):
        from msm_hpc.training.megatron.fp8 import CurrentScaling

        call = CurrentScaling.__call__

    def count(self: Any, tensor: Tensor) -> Any:
        rounded.append(self.dtype)
        return call(self, tensor)

    monkeypatch.setattr(CurrentScaling, "__call__", count)
    metrics = read_metrics(_run(replace(CONFIG, precision="fp8_tensorwise"), inputs, tmp_path / "out"))
    linears, micro_batches = 2 * 4, CONFIG.global_batch_size // CONFIG.micro_batch_size
    assert rounded.count(torch.float8_e4m3fn) == len(metrics) * linears * (micro_batches + 1)
    assert rounded.count(torch.float8_e5m2) == len(metrics) * linears * micro_batches


@pytest.mark.slow
def test_an_fp8_run_continues_in_bf16_and_is_exported(
    tmp_path: Path, inputs: TrainInputs, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "msm_hpc"):
        first = _run(replace(CONFIG, precision="fp8_tensorwise"), inputs, tmp_path / "fp8")
    assert "fp8_tensorwise, emulated on the CPU" in caplog.text
    assert json.loads((first / "summary.json").read_text())["fp8_emulated"] is True
    weights = read_checkpoint(first / "checkpoint")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    bf16 = replace(CONFIG, precision="bf16", fp8_emulated=False)
    second = _run(bf16, replace(inputs, checkpoint=first), tmp_path / "bf16")
    assert read_metrics(second)[0].loss < read_metrics(first)[0].loss - 0.1
    third = _run(CONFIG, replace(inputs, checkpoint=second), tmp_path / "delayed")
    assert read_metrics(third)[0].loss < read_metrics(second)[0].loss
    (tmp_path / "export").mkdir()
    trained = ExportInputs(model=inputs.model, checkpoint=third)
    run_export(ExportConfig(dtype="bfloat16"), trained, tmp_path / "export")
    from safetensors.torch import load_file

    exported = load_file(tmp_path / "export" / "model.safetensors")
    embedding = read_checkpoint(third / "checkpoint")["embedding.word_embeddings.weight"]
    assert torch.equal(exported["model.embed_tokens.weight"], embedding[:200])
