"""The server in this process, over real HTTP, on small models whose replies are known by construction."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from msm_hpc.base.errors import DivergedError, UserError
from msm_hpc.config.serving import Serving
from msm_hpc.endpoint import Answer, Message, Prompt, Reject, Reply, spent
from msm_hpc.serving import served
from tests.serving.asking import prompt, run
from tests.serving.toy import SPECIAL, WORDS, make_tokenizer


def make_model(folder: Path) -> LlamaForCausalLM:
    """A random model of float64, so that what is rounded differently in another batch changes no token."""
    make_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.5,
        max_position_embeddings=256,
        eos_token_id=WORDS.index("<eos>"),
    )
    model = LlamaForCausalLM(config).double()
    model.generation_config.repetition_penalty = 5.0
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make_model(folder := tmp_path_factory.mktemp("model"))
    return folder


PROMPTS = [prompt(text, sample=sample) for text in ("a", "b c", "d d d d d a") for sample in range(4)]


def said(results: dict[Prompt, Reply | Reject]) -> dict[Prompt, Any]:
    """How prompts ended, but for the name of the server that answered."""
    return {asked: replace(end, model="") if isinstance(end, Reply) else end for asked, end in results.items()}


def likeliest(folder: Path, text: str, most: int) -> list[str]:
    """What the model says, token by token, with nothing but its logits."""
    llama = LlamaForCausalLM.from_pretrained(folder, dtype="auto")
    ids = [WORDS.index(word) for word in f"User : {text} <end> Assistant :".split()]
    words: list[str] = []
    while len(words) < most:
        with torch.no_grad():
            word = WORDS[int(llama(torch.tensor([ids])).logits[0, -1].argmax())]
        words.append(word)
        ids.append(WORDS.index(word))
        if word in ("<end>", "<eos>"):
            break
    return words


def test_a_reply_does_not_depend_on_what_it_was_batched_with(model: Path, tmp_path: Path) -> None:
    with served(Serving(batch=len(PROMPTS)), model) as endpoint:
        together = said(run(endpoint, PROMPTS, tmp_path / "together"))
    with served(Serving(batch=1), model) as endpoint:
        assert said(run(endpoint, PROMPTS, tmp_path / "alone")) == together
    assert len({str(end) for end in together.values()}) > len(PROMPTS) / 2


def test_the_likeliest_reply_ends_where_the_template_ends_a_turn(model: Path, tmp_path: Path) -> None:
    """The model's own generation config knows neither that token, nor is the rest of it asked for."""
    asked = [prompt(text, temperature=0.0, max_tokens=20) for text in ("a", "b c", "e a d", "d d", "c a", "b")]
    asked.append(replace(asked[0], max_tokens=2))
    with served(Serving(), model) as endpoint:
        ends = run(endpoint, asked, tmp_path / "greedy")
        narrow = run(
            replace(endpoint, body={"top_p": 1e-9}), [replace(each, temperature=1.0) for each in asked], tmp_path
        )
    finishes = set()
    for each in asked:
        words = likeliest(model, each.messages[0].content, each.max_tokens)
        text = " ".join(word for word in words if word not in SPECIAL)
        end = ends[each]
        assert end.completion_tokens == len(words)
        if isinstance(end, Reply):
            assert (end.text, end.prompt_tokens) == (text, len(each.messages[0].content.split()) + 5)
            assert end.finish == ("stop" if words[-1] in ("<end>", "<eos>") else "length")
            finishes.add(end.finish)
        else:
            assert (end.reason, text) == ("empty", "")
    assert finishes == {"stop", "length"}
    assert {each.messages: end for each, end in said(narrow).items() if each.max_tokens == 20} == {
        each.messages: end for each, end in said(ends).items() if each.max_tokens == 20
    }


def test_another_server_of_the_same_model_is_not_asked_again(model: Path, tmp_path: Path) -> None:
    with served(Serving(), model) as endpoint:
        first = run(endpoint, PROMPTS[:4], tmp_path)
        name, before = endpoint.asked_as, spent(tmp_path)
    with served(Serving(), model) as endpoint:
        assert endpoint.asked_as != name
        assert run(endpoint, PROMPTS[:4], tmp_path) == first
    assert spent(tmp_path) == before


class Structured(Answer):
    title: str


def test_what_it_cannot_do_is_refused_with_the_reason(model: Path, tmp_path: Path) -> None:
    structured, long = prompt("a", answer=Structured), prompt("a", max_tokens=300)
    system = Prompt(messages=(Message("system", "<end>"), Message("user", "a")), max_tokens=3)
    with served(Serving(), model) as endpoint:
        ends = run(endpoint, [structured, long, system], tmp_path)
        with pytest.raises(UserError, match=f"no model 'other' .*but '{endpoint.asked}'"):
            run(replace(endpoint, asked_as="other"), [prompt("a")], tmp_path / "other")
    reject = ends[structured]
    assert isinstance(reject, Reject)
    assert "response_format" in reject.detail
    reject = ends[long]
    assert isinstance(reject, Reject)
    assert "6 tokens and a reply of at most 300 are longer than the model's context of 256" in reject.detail


def test_a_model_that_diverged_has_no_replies(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, broken := tmp_path / "broken")
    llama = LlamaForCausalLM.from_pretrained(model, dtype="auto")
    llama.lm_head.weight.data[3] = float("nan")
    llama.save_pretrained(broken)
    with pytest.raises(DivergedError, match="logits are not finite"), served(Serving(), broken) as endpoint:
        ends = run(endpoint, [prompt("a")], tmp_path / "replies")
        assert [end.reason for end in ends.values() if isinstance(end, Reject)] == ["failed"]


def test_what_is_no_whole_model_is_not_served(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, damaged := tmp_path / "damaged")
    tensors = load_file(damaged / "model.safetensors")
    save_file({name: each for name, each in tensors.items() if "norm" not in name}, damaged / "model.safetensors")
    for folder, adapter, message in (
        (tmp_path / "nowhere", None, "nowhere is no folder with a model"),
        (damaged, None, "weights are missing or have another shape: .*norm"),
        (model, model, "is not an exported adapter"),
    ):
        with pytest.raises(UserError, match=message), served(Serving(), folder, adapter):
            pass
