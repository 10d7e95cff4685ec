"""Exports opened with transformers 4, which vLLM up to 0.17 and most evaluation harnesses are built on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msm_hpc.config.stages import ExportConfig
from tests.conversion.byte_level import write_bpe
from tests.conversion.models import VARIANTS, export, import_model, make_model
from tests.conversion.open_models import TEXT, last_logits
from tokenization.tokenizer import load_tokenizer

FOLDER = Path(sys.prefix) / "transformers4"
# Variants of models, each with a class that its tokenizer may name; None for a tokenizer of words.
MODELS = {
    "llama": "PreTrainedTokenizerFast",
    "llama tied": "GPT2Tokenizer",
    "llama wide heads": "LlamaTokenizerFast",
    "llama 3.1": "TokenizersBackend",
    "qwen2": "TokenizersBackend",
    "qwen3 tied": None,
}


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER.exists(), reason=f"needs transformers 4 in {FOLDER}; `make lint` installs it")
def test_transformers_4_reads_the_model_and_tokenizer_that_were_given(tmp_path: Path) -> None:
    given: dict[Path, Path] = {}
    for name, tokenizer_class in MODELS.items():
        dtype = torch.bfloat16 if name == "llama" else torch.float32
        source = make_model(tmp_path / f"{name}.given", dtype=dtype, vocab_size=512, **VARIANTS[name])
        if tokenizer_class is not None:
            write_bpe(source, tokenizer_class, extra_special_tokens=["<|im_start|>"])
        model = import_model(source, tmp_path / f"{name}.model")
        given[export(model, tmp_path / name, ExportConfig())] = source
    found = _open(list(given))
    assert found["version"].startswith("4.")
    for out, source in given.items():
        opened = found[str(out)]
        np.testing.assert_allclose(opened["logits"], last_logits(source), rtol=0, atol=1e-4, err_msg=out.name)
        encoded = load_tokenizer(source / "tokenizer.json").encode(TEXT, add_special_tokens=False)
        assert opened["ids"] == encoded.ids, out.name


def _open(folders: list[Path]) -> dict[str, Any]:
    script = Path(__file__).with_name("open_models.py")
    done = subprocess.run(
        [sys.executable, str(script), *map(str, folders)],
        env={**os.environ, "PYTHONPATH": str(FOLDER), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
