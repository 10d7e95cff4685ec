"""LoRA: the same training as PEFT's, at any layout."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from msm_hpc.base.errors import UserError
from msm_hpc.config.stages import ExportConfig, ExportInputs
from msm_hpc.config.training import Layout, Lora, TrainConfig, TrainInputs
from msm_hpc.conversion.stage import run_export
from msm_hpc.model.architecture import Transformer, read_architecture
from msm_hpc.training import stage
from msm_hpc.training.megatron.groups import process_groups
from tests.training.ranks import Job, do_all, start_ranks
from tests.training.toy import TWO_RANKS, Corpus, read_checkpoint, read_exact, read_metrics, write_inputs

LORA = Lora(rank=4, alpha=16)
# For this epsilon see test_layouts.
CONFIG = TrainConfig(
    sequence_length=32,
    global_batch_size=4,
    micro_batch_size=2,
    epochs=3,
    learning_rate=1e-2,
    clip_grad=0.5,
    adam_eps=1e-6,
    precision="fp32",
    save_every=1000,
    lora=LORA,
)
LAYOUTS = {
    "tensor": Layout(tensor_parallel=2),
    "pipeline": Layout(pipeline_parallel=2),
    "interleaved": Layout(pipeline_parallel=2, virtual_pipeline=2),
    "sequence": Layout(tensor_parallel=2, sequence_parallel=True),
    "context": Layout(context_parallel=2),
}
QWEN3 = {"architectures": ("Qwen3ForCausalLM",), "head_dim": 12}


Started = Callable[..., TrainInputs]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Started:
    """Inputs of a run on a base that was trained for a few steps, so that no weight is at its initial value.

    One for each set of fields of ``config.json``; tests only read them.
    """

    @functools.cache
    def start(**fields: Any) -> TrainInputs:
        root = tmp_path_factory.mktemp("started")
        inputs = write_inputs(root / "inputs", Corpus(documents=75), **fields)
        base = _out(root, "base")
        stage.run(replace(CONFIG, lora=None, epochs=1), inputs, base)
        return replace(inputs, base=base)

    return start


def _out(root: Path, name: str) -> Path:
    (root / name).mkdir()
    return root / name


def _peft(base: Path, adapter: Path, batches: list[Any], rates: list[float]) -> Iterator[tuple[float, float]]:
    """Loss and gradient norm of each step of a plain loop, one document at a time."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter, is_trainable=True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, betas=(CONFIG.adam_beta1, CONFIG.adam_beta2), eps=CONFIG.adam_eps, weight_decay=CONFIG.weight_decay
    )
    for step, rate in zip(batches, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        total, targets = torch.zeros(()), 0.0
        for batch in step:
            ends = batch.boundaries.tolist()
            for begin, end in itertools.pairwise(ends):
                logits = model(batch.tokens[:, begin:end]).logits[0]
                losses = F.cross_entropy(logits, batch.labels[0, begin:end], reduction="none")
                total = total + (losses * batch.loss_mask[0, begin:end]).sum()
            targets += float(batch.loss_mask.sum())
        torch.autograd.backward(total / targets)
        norm = torch.nn.utils.clip_grad_norm_(trained, CONFIG.clip_grad)
        optimizer.step()
        yield float(total / targets), float(norm)


@pytest.mark.slow
def test_a_run_is_step_by_step_that_of_peft(tmp_path: Path, started: Started) -> None:
    inputs = started(model_type="llama")
    model = read_architecture(inputs.model)
    initial, base, exported, out = (_out(tmp_path, name) for name in ("initial", "exported_base", "exported", "out"))
    with process_groups(Layout()):
        from msm_hpc.training.checkpoints.weights import save_weights

        trainable = stage.build(CONFIG, model, inputs, steps=1)
        save_weights(trainable.chunks, initial / "checkpoint", trainable.adapter)
    assert inputs.base is not None
    run_export(ExportConfig(), ExportInputs(model=inputs.model, checkpoint=inputs.base), base)
    run_export(ExportConfig(), ExportInputs(model=inputs.model, checkpoint=initial, base_model=base), exported)
    stage.run(CONFIG, inputs, out)
    metrics = read_metrics(out)
    with process_groups(Layout()):
        from msm_hpc.training.data.reader import open_data

        data = open_data(CONFIG, model, inputs)
        batches = [data.read(step, CONFIG.micro_batch_size) for step in range(len(metrics))]
    rates = [step.learning_rate for step in metrics]
    expected = list(_peft(base, exported, batches, rates))
    found = [(step.loss, step.grad_norm) for step in metrics]
    assert len(found) >= 20 and found[-1][0] < found[0][0] - 0.05
    assert max(norm for _, norm in found) > CONFIG.clip_grad, "clipping takes part"
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_losses_and_gradient_norms_are_those_of_a_single_rank(tmp_path: Path, started: Started) -> None:
    single = {"llama": started(num_hidden_layers=2), "deep": started(), "qwen3": started(**QWEN3, num_hidden_layers=2)}
    runs = [(name, "deep" if name == "interleaved" else "llama") for name in LAYOUTS] + [("sequence", "qwen3")]
    jobs = [
        Job(replace(CONFIG, layout=LAYOUTS[name]), single[family], tmp_path / f"{name}.{family}")
        for name, family in runs
    ]
    do_all(tmp_path, 2, jobs)
    for family, inputs in single.items():
        stage.run(CONFIG, inputs, _out(tmp_path, f"one.{family}"))
    for name, family in runs:
        one, other = tmp_path / f"one.{family}", tmp_path / f"{name}.{family}"
        expected, found = ([(step.loss, step.grad_norm) for step in read_metrics(out)[:20]] for out in (one, other))
        assert len(expected) == 20
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=name)
        weights = read_checkpoint(one / "checkpoint")
        for key, weight in read_checkpoint(other / "checkpoint").items():
            torch.testing.assert_close(weight, weights[key], rtol=0, atol=1e-4, msg=f"{name} {key}")


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit_from_its_adapter_alone(tmp_path: Path, started: Started) -> None:
    inputs = started()
    config = replace(TWO_RANKS, lora=LORA, save_every=2)
    unbroken, killed = (Job(config, inputs, tmp_path / name) for name in ("unbroken", "killed"))
    ended = start_ranks(tmp_path, 2, [unbroken, replace(killed, kill_at=5)])
    assert ended.codes == [-9, -9], ended.errors
    point = killed.out / "resume" / "step-000000002"
    saved = [key for key in read_checkpoint(point) if key.startswith(("decoder", "embedding", "output_layer"))]
    assert len(saved) == 14 and all("_adapter." in key for key in saved), saved
    do_all(tmp_path, 2, [killed])
    assert read_exact(killed.out) == read_exact(unbroken.out)
    expected, found = (read_checkpoint(job.out / "checkpoint") for job in (unbroken, killed))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.slow
def test_overlapping_communication_changes_no_bit(tmp_path: Path, started: Started) -> None:
    """Weights are gathered by hooks at the calls of modules, and an adapter's are used outside of theirs."""
    inputs = started()
    config = replace(CONFIG, layout=Layout(data_parallel=2), epochs=1)
    plain, overlapped = (Job(config, inputs, tmp_path / name) for name in ("plain", "overlapped"))
    do_all(tmp_path, 2, [plain, replace(overlapped, overlap=True)])
    assert read_exact(overlapped.out) == read_exact(plain.out)
    expected, found = (read_checkpoint(job.out / "checkpoint") for job in (plain, overlapped))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_fine_tuning_trains_the_adapter_of_midtraining_further(tmp_path: Path, started: Started) -> None:
    inputs = started()
    midtrained, tuned, fresh = (_out(tmp_path, name) for name in ("midtrained", "tuned", "fresh"))
    stage.run(CONFIG, inputs, midtrained)
    stage.run(CONFIG, replace(inputs, checkpoint=midtrained), tuned)
    stage.run(replace(CONFIG, learning_rate=1e-9), inputs, fresh)
    for out in (midtrained, tuned):
        kept = read_checkpoint(out / "checkpoint")
        assert len(kept) == 14 and all("_adapter." in key for key in kept), "the base is not stored again"
    assert read_metrics(tuned)[0].loss < read_metrics(fresh)[0].loss - 0.1, "it starts where midtraining ended"
    key = "decoder.layers.mlp.linear_fc2_adapter.down_proj.lora_A"
    first, second, drawn = (read_checkpoint(out / "checkpoint")[key] for out in (midtrained, tuned, fresh))
    assert 0 < (first - drawn).abs().max() < 0.2 and 0 < (second - first).abs().max() < 0.2, "one adapter, moved"


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (
            None,
            r"holds an adapter of Lora\(rank=4, alpha=16(\.0)?\), but lora is None: a run continues with the same",
        ),
        (Lora(rank=8, alpha=16), r"holds an adapter of Lora\(rank=4, .* but lora is Lora\(rank=8, alpha=16\)"),
        (Lora(rank=4, alpha=8), r"holds an adapter of Lora\(rank=4, .* but lora is Lora\(rank=4, alpha=8\)"),
    ],
)
def test_another_adapter_is_refused(tmp_path: Path, started: Started, lora: Lora | None, message: str) -> None:
    inputs = started()
    first = _out(tmp_path, "first")
    stage.run(replace(CONFIG, epochs=1), inputs, first)
    with pytest.raises(UserError, match=message):
        base = inputs.base if lora else None
        stage.run(replace(CONFIG, lora=lora), replace(inputs, base=base, checkpoint=first), _out(tmp_path, "second"))


def test_an_adapter_goes_with_no_other_base_than_its_own(tmp_path: Path, started: Started) -> None:
    inputs = started()
    assert inputs.base is not None
    other, first, second = (_out(tmp_path, name) for name in ("other", "first", "second"))
    stage.run(replace(CONFIG, lora=None, epochs=1, seed=1), replace(inputs, base=None), other)
    stage.run(replace(CONFIG, epochs=1), inputs, first)
    refused = (
        (replace(inputs, base=other, checkpoint=first), r"first/checkpoint was trained on other weights than those of"),
        (replace(inputs, base=first), r"first/checkpoint holds an adapter, not the weights of a model"),
        (replace(inputs, checkpoint=other), r"other/checkpoint holds no adapter, but lora is Lora"),
    )
    for wrong, message in refused:
        with pytest.raises(UserError, match=message):
            stage.run(CONFIG, wrong, second)
    with pytest.raises(UserError, match=r"is given as the base of an adapter, but lora is None"):
        stage.run(replace(CONFIG, lora=None), inputs, second)


def test_a_run_does_not_resume_on_a_base_that_was_made_again(tmp_path: Path, started: Started) -> None:
    inputs = started()
    other, out = _out(tmp_path, "other"), _out(tmp_path, "out")
    stage.run(replace(CONFIG, lora=None, epochs=1, seed=1), replace(inputs, base=None), other)
    model = read_architecture(inputs.model)
    with process_groups(Layout()):
        from msm_hpc.training.checkpoints.resume import ResumeSaver, load_resume_checkpoint
        from msm_hpc.training.data.reader import open_data
        from msm_hpc.training.step import train_step

        trainable = stage.build(CONFIG, model, inputs, steps=9)
        train_step(trainable, open_data(CONFIG, model, inputs), CONFIG, 0)
        saver = ResumeSaver(trainable, out / "resume", lambda step: "samples")
        saver.begin(1)
        saver.finish()
        assert load_resume_checkpoint(trainable, out / "resume", lambda step: "samples", 99) == 1
        again = stage.build(CONFIG, model, replace(inputs, base=other), steps=9)
        with pytest.raises(UserError, match=r"its base was made again since; delete"):
            load_resume_checkpoint(again, out / "resume", lambda step: "samples", 99)


def test_an_adapter_of_nothing_is_refused(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", Corpus(documents=20))
    with pytest.raises(UserError, match="lora is set, but this run is given no base"):
        stage.run(CONFIG, inputs, _out(tmp_path, "out"))


@pytest.mark.parametrize("word", ["fp8_delayed", "fp8_tensorwise"])
def test_beside_emulated_fp8_the_adapter_stays_in_bf16(tmp_path: Path, started: Started, word: Any) -> None:
    inputs = started()
    out = _out(tmp_path, "out")
    config = replace(CONFIG, precision=word, fp8_emulated=True, micro_batch_size=4)
    stage.run(config, inputs, out)
    losses = [step.loss for step in read_metrics(out)]
    assert losses[-1] < losses[0] - 0.05
    adapter = [value for key, value in read_checkpoint(out / "checkpoint").items() if "_adapter." in key]
    assert len(adapter) == 14 and {value.dtype for value in adapter} == {torch.bfloat16}


def test_delayed_scales_are_updated_backwards_though_the_first_layer_is_frozen(
    tmp_path: Path, started: Started
) -> None:
    inputs = started()
    config = replace(CONFIG, precision="fp8_delayed", fp8_emulated=True)
    with process_groups(Layout()):
        from msm_hpc.training.data.reader import open_data
        from msm_hpc.training.step import train_step

        model = read_architecture(inputs.model)
        trainable = stage.build(config, model, inputs, steps=9)
        layers = trainable.chunks[0].decoder.layers
        linears = [layer.self_attention.linear_qkv for layer in layers] + [layer.mlp.linear_fc2 for layer in layers]
        before = [linear.get_extra_state()[2].clone() for linear in linears]
        train_step(trainable, open_data(config, model, inputs), config, 0)
        after = [linear.get_extra_state()[2] for linear in linears]
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True)), "of output gradients"


def test_where_a_norm_is_fused_into_the_layer_the_adapter_sees_the_normed_input(
    tmp_path: Path, started: Started
) -> None:
    """As in Transformer Engine's layers, which hold ``layer_norm_weight`` and ``eps`` (stood in for here)."""
    inputs = started()
    with process_groups(Layout()):
        from msm_hpc.training.data.reader import open_data

        model = read_architecture(inputs.model)
        (chunk,) = stage.build(CONFIG, model, inputs, steps=1).chunks
        for name, parameter in chunk.named_parameters():
            if name.endswith("lora_B"):
                torch.nn.init.normal_(parameter, std=0.3)
        data = open_data(CONFIG, model, inputs)
        expected = _losses(chunk, data)
        for layer in chunk.decoder.layers:
            layer.input_layernorm = _fused(layer.input_layernorm, layer.self_attention.linear_qkv)
            layer.pre_mlp_layernorm = _fused(layer.pre_mlp_layernorm, layer.mlp.linear_fc1)
        torch.testing.assert_close(_losses(chunk, data), expected, rtol=0, atol=1e-5)


def _losses(chunk: torch.nn.Module, data: Any) -> torch.Tensor:
    from msm_hpc.training.step import token_losses

    with torch.no_grad():
        return token_losses(chunk, data.read(0, 4)[0])


def _fused(norm: torch.nn.RMSNorm, linear: Any) -> torch.nn.Module:
    linear.layer_norm_weight, linear.eps, plain = norm.weight, norm.eps, linear.forward
    linear.forward = lambda input_: plain(norm(input_))
    return torch.nn.Identity()


def test_initial_adapter_is_pefts(started: Started) -> None:
    inputs = started()
    with process_groups(Layout()):
        (chunk,) = stage.build(CONFIG, read_architecture(inputs.model), inputs, steps=1).chunks
        adapter = {name: value for name, value in chunk.named_parameters() if value.requires_grad}
    assert len(adapter) == 4 * 7 * 2 and all("_adapter." in name for name in adapter)
    for name, value in adapter.items():
        if name.endswith("lora_B"):
            assert not value.any()
        else:
            bound = value.shape[1] ** -0.5
            assert 0.8 * bound < value.abs().max() <= bound, name


def test_flops_are_those_that_torch_counts_in_peft(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    from msm_hpc.model.flops import step_flops

    inputs = write_inputs(tmp_path, Corpus(documents=20))
    config = LlamaConfig.from_pretrained(inputs.model, attn_implementation="eager")
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = LoraConfig(r=4, lora_alpha=16, target_modules=names, task_type="CAUSAL_LM")
    model = get_peft_model(LlamaForCausalLM(config), lora)
    model.enable_input_require_grads()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 48, dtype=torch.long)).logits.sum().backward()
    transformer: Transformer = read_architecture(inputs.model)
    found = step_flops(transformer, tokens=48, pairs=48**2, lora=LORA)
    assert found == pytest.approx(counter.get_total_flops(), rel=0.02)
