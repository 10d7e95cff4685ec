from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Gpu
from msm_hpc.config.training import Layout, Precision, TrainConfig
from msm_hpc.model.architecture import read_architecture
from msm_hpc.model.gpus import GPUS
from msm_hpc.model.precision import (
    RECIPES,
    check_capability,
    check_layers,
    check_precision,
    check_shapes,
    installed_te,
    te_attention,
)
from msm_hpc.training.megatron.device import check_here
from msm_hpc.training.megatron.groups import process_groups
from tests.training.toy import write_model

TE = "2.11.0"
SHAPE = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8, "num_key_value_heads": 4}


def _config(precision: Any, **fields: Any) -> TrainConfig:
    return TrainConfig(precision=precision, sequence_length=64, **fields)


def _can(precision: Precision, gpu: Gpu) -> bool:
    try:
        check_precision(_config(precision), on_gpus=True, gpu=gpu, te=TE)
    except UserError:
        return False
    return True


def test_every_word_and_every_gpu_is_in_its_table() -> None:
    assert list(RECIPES) == list(get_args(Precision))
    assert list(GPUS) == list(get_args(Gpu))


def test_which_gpu_can_do_what() -> None:
    words = {gpu: [word for word in RECIPES if _can(word, gpu)] for gpu in GPUS}
    everywhere, fp8 = ["fp32", "bf16"], ["fp8_delayed", "fp8_tensorwise"]
    assert words["a100"] == everywhere
    assert words["l40s"] == everywhere + fp8
    assert words["h100"] == words["h200"] == words["gh200"] == [*everywhere, *fp8, "fp8_blockwise"]
    assert words["b200"] == words["gb200"] == list(RECIPES)


@pytest.mark.parametrize(
    ("precision", "gpu", "te", "message"),
    [
        ("fp8_tensorwise", "a100", TE, r"capability at least 8\.9, and a100 has 8\.0; it can do bf16$"),
        (
            "fp8_blockwise",
            "l40s",
            TE,
            r"at least 9\.0, and l40s has 8\.9; it can do bf16, fp8_delayed, fp8_tensorwise$",
        ),
        ("mxfp8", "h100", TE, r"at least 10\.0 and below 12\.0, and h100 has 9\.0; it can do bf16, .*fp8_blockwise$"),
        ("nvfp4", "h200", TE, r"precision=nvfp4 needs a GPU of compute capability at least 10\.0, and h200 has 9\.0"),
        ("fp8_delayed", "h100", None, r"Transformer Engine is not installed; Megatron would .* Run: pip install"),
        (
            "fp8_delayed",
            None,
            "2.8.0",
            r"Transformer Engine 2\.8\.0 is installed, .* needs at least 2\.9 and below 2\.12",
        ),
        ("fp8_delayed", None, "2.12", r"Transformer Engine 2\.12 is installed"),
        ("nvfp4", "b200", None, r"precision=nvfp4: Transformer Engine is not installed"),
    ],
)
def test_what_a_gpu_cannot_do(precision: Any, gpu: Any, te: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_precision(_config(precision), on_gpus=True, gpu=gpu, te=te)


def test_a_gpu_that_is_too_new() -> None:
    with pytest.raises(UserError, match=r"below 12\.0, and RTX PRO 6000 has 12\.0; it can do .*nvfp4"):
        check_capability("mxfp8", "RTX PRO 6000", (12, 0))


def test_layers_that_a_gpu_does_not_support_and_a_warning_of_slower_ones(caplog: pytest.LogCaptureFixture) -> None:
    for capability, flash_attn in (((8, 0), True), ((9, 0), False), ((10, 0), False)):
        check_layers("a GPU", capability, TE, flash_attn)
    for capability in ((8, 0), (8, 9), (12, 0)):
        with pytest.raises(
            UserError, match=r"on A100 .* needs flash-attn .* supports them from 9\.0 to below 12\.0 only"
        ):
            check_layers("A100", capability, TE, flash_attn=False)
    with pytest.raises(UserError, match=r"Transformer Engine 2\.14 is installed, .* Run: pip install"):
        check_layers("H100", (9, 0), "2.14", flash_attn=True)
    assert not caplog.messages
    check_layers("A100", (8, 0), None, flash_attn=False)
    assert "Transformer Engine is not installed: layers are Megatron's own, and slower" in caplog.text


def test_attention_is_never_left_to_choose_the_one_that_stores_every_score() -> None:
    from megatron.core.transformer.enums import AttnBackend

    assert AttnBackend[te_attention((9, 0))] is AttnBackend.fused
    assert AttnBackend[te_attention((8, 0))] is AttnBackend[te_attention((12, 0))] is AttnBackend.flash


@pytest.mark.parametrize("precision", ["fp8_delayed", "fp8_tensorwise", "fp8_blockwise", "mxfp8", "nvfp4"])
def test_without_a_gpu_nothing_is_done_silently(precision: Any) -> None:
    with pytest.raises(UserError, match=f"precision={precision} needs a GPU and there is none; set fp8_emulated=true"):
        check_precision(_config(precision), on_gpus=False, gpu=None, te=TE)


def test_what_can_be_emulated() -> None:
    for precision in ("fp8_delayed", "fp8_tensorwise"):
        check_precision(_config(precision, fp8_emulated=True), on_gpus=False, gpu=None, te=None)
    for precision in ("fp8_blockwise", "mxfp8", "nvfp4"):
        with pytest.raises(UserError, match=f"{precision} cannot run on a CPU: only fp8_delayed and fp8_tensorwise"):
            check_precision(_config(precision, fp8_emulated=True), on_gpus=False, gpu=None, te=None)
    with pytest.raises(UserError, match="this one has GPUs; let Transformer Engine do fp8_delayed"):
        check_precision(_config("fp8_delayed", fp8_emulated=True), on_gpus=True, gpu=None, te=TE)
    for precision in ("fp32", "bf16"):
        with pytest.raises(UserError, match=f"precision is {precision}: there is nothing to emulate"):
            _config(precision, fp8_emulated=True)


@pytest.mark.parametrize(
    ("precision", "changes", "message"),
    [
        ("fp8_delayed", {"hidden_size": 264}, r"multiples of 16 on each rank, and hidden_size is 264; change it, or"),
        ("fp8_delayed", {"intermediate_size": 528}, r"intermediate_size 528 / tensor_parallel 2 is 264"),
        ("fp8_delayed", {"head_dim": 34}, r"num_attention_heads 8 x head_dim 34 / tensor_parallel 2 is 136"),
        ("fp8_delayed", {"num_key_value_heads": 2, "head_dim": 20}, r"rows of query, key and value .* 2 is 120"),
        ("mxfp8", {"hidden_size": 272}, r"precision=mxfp8 needs multiples of 32 on each rank, and hidden_size is 272"),
        ("nvfp4", {"hidden_size": 264}, r"precision=nvfp4 needs multiples of 16"),
        ("fp8_blockwise", {"hidden_size": 264}, r"precision=fp8_blockwise needs multiples of 16"),
        ("fp8_tensorwise", {"num_hidden_layers": 2}, r"first and the last layer in bf16, and this model has 2"),
    ],
)
def test_models_that_do_not_fit(tmp_path: Path, precision: Any, changes: dict[str, Any], message: str) -> None:
    model = read_architecture(write_model(tmp_path / "model", **(SHAPE | changes)))
    with pytest.raises(UserError, match=message):
        check_shapes(_config(precision, layout=Layout(tensor_parallel=2)), model)


@pytest.mark.parametrize(
    ("precision", "tokens", "sequence_parallel", "message"),
    [
        ("fp8_tensorwise", 40, False, r"multiples of 16 .* micro_batch_size 1 x sequence_length 40 is 40"),
        ("fp8_tensorwise", 48, True, r"sequence_length 48 / tensor_parallel 2 is 24"),
        ("mxfp8", 48, False, r"multiples of 32 .* is 48"),
        ("fp8_blockwise", 128, True, r"128 for sequence_parallel, which gathers whole blocks, and .* 2 is 64"),
    ],
)
def test_tokens_that_do_not_fit(
    tmp_path: Path, precision: Any, tokens: int, sequence_parallel: bool, message: str
) -> None:
    model = read_architecture(write_model(tmp_path / "model", **SHAPE))
    layout = Layout(tensor_parallel=2, sequence_parallel=sequence_parallel)
    with pytest.raises(UserError, match=message):
        check_shapes(TrainConfig(precision=precision, sequence_length=tokens, layout=layout), model)


@pytest.mark.parametrize("precision", list(RECIPES))
def test_shapes_that_fit(tmp_path: Path, precision: Any) -> None:
    model = read_architecture(write_model(tmp_path / "model", **SHAPE))
    layout = Layout(tensor_parallel=2, sequence_parallel=True)
    check_shapes(TrainConfig(precision=precision, sequence_length=256, layout=layout), model)
    if not RECIPES[precision].quantised:
        odd = read_architecture(write_model(tmp_path / "odd", hidden_size=36))
        check_shapes(TrainConfig(precision=precision, sequence_length=7), odd)


def test_here_there_is_no_gpu(tmp_path: Path) -> None:
    model = read_architecture(write_model(tmp_path / "model", **SHAPE))
    check_here(_config("bf16"), model)
    with pytest.raises(UserError, match="needs a GPU and there is none"):
        check_here(_config("fp8_delayed"), model)


@pytest.mark.parametrize("precision", list(RECIPES))
def test_megatron_accepts_the_fields_and_they_agree(tmp_path: Path, precision: Any) -> None:
    model = read_architecture(write_model(tmp_path / "model", **SHAPE))
    with process_groups(Layout()):
        import torch

        from msm_hpc.training.megatron.model import transformer_config

        config = transformer_config(model, Layout(), precision)
    assert config.params_dtype == (torch.float32 if precision == "fp32" else torch.bfloat16)
    assert (config.fp8 is not None) + (config.fp4 is not None) == RECIPES[precision].quantised
    assert (config.fp8_recipe == "delayed") == (config.fp8_amax_history_len == 1024) == (precision == "fp8_delayed")
    assert config.first_last_layers_bf16 == (precision == "fp8_tensorwise")
    assert config.num_layers_at_start_in_bf16 == config.num_layers_at_end_in_bf16 == 1
    assert not config.fp8_param and config.fp8_wgrad and config.fp8_interval == 1 and config.fp8_margin == 0


def test_version_is_read_without_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_te() is None
    facts = tmp_path / "transformer_engine-2.10.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: transformer_engine\nVersion: 2.10.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_te() == "2.10.0"
    assert "transformer_engine" not in sys.modules


def test_checking_imports_nothing_heavy() -> None:
    code = "import sys, msm_hpc.model.precision; print([m for m in ('torch', 'megatron') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
