from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.config.training import Lora
from msm_hpc.model.adapter import NOTE, note, parameters, read_note
from msm_hpc.model.architecture import parse_architecture

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
}
QWEN25_14B = LLAMA_8B | {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 48,
    "num_attention_heads": 40,
    "vocab_size": 152064,
}


@pytest.mark.parametrize(("fields", "published"), [(LLAMA_8B, 167_772_160), (QWEN25_14B, 275_251_200)])
def test_sizes_are_those_of_the_papers_adapters(fields: dict[str, object], published: int) -> None:
    assert parameters(parse_architecture("config.json", fields), Lora()) == published


def test_a_checkpoint_records_its_adapter(tmp_path: Path) -> None:
    assert read_note(tmp_path) is None and note(None) == {}
    (tmp_path / NOTE).write_text(note(Lora(rank=8, alpha=4.5))[NOTE])
    assert read_note(tmp_path) == Lora(rank=8, alpha=4.5)
