from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from msm_hpc.model.architecture import read_architecture
from msm_hpc.model.flops import step_flops
from msm_hpc.model.gpus import peak_flops
from msm_hpc.training.record.summary import utilisation
from tests.training.toy import write_model


@pytest.mark.parametrize("tied", [False, True])
def test_the_formula_counts_what_torch_counts_in_the_same_model(tmp_path: Path, tied: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    hf = write_model(tmp_path / "model", tie_word_embeddings=tied)
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(hf, attn_implementation="eager"))
    counted = 0
    for length in (48, 16):
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, length, dtype=torch.long)).logits.sum().backward()
        counted += counter.get_total_flops()
    found = step_flops(read_architecture(hf), tokens=48 + 16, pairs=48**2 + 16**2, lora=None)
    assert found == pytest.approx(counted, rel=0.02), "norms, which are no matrix products, are the difference"


def test_peaks_go_by_the_name_that_the_driver_tells() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA H100 NVL") == 835e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("NVIDIA GB200") == 2500e12, "which is no B200"
    assert peak_flops("NVIDIA GH200 480GB") == 989e12
    assert peak_flops("CPU") is None
    assert "MFU 50.0% of 989 TFLOP/s (NVIDIA H200, dense bf16)" in utilisation(494.5e12, "NVIDIA H200")
    assert "peak of Tesla K80 is not known" in utilisation(1e12, "Tesla K80")
