"""The eval stage, on small models whose preferences are known by construction."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_jsonl
from msm_hpc.base.notices import read_notices, write_notices
from msm_hpc.base.progress import Progress, read_progress
from msm_hpc.base.rows import read_rows
from msm_hpc.config.stages import EvalConfig, EvalInputs
from msm_hpc.evals import stage
from msm_hpc.evals.pairs import read_pairs
from msm_hpc.evals.preference import Answer

SPECIAL = ["<unk>", "<pad>", "<eos>"]
NOUNS = ["bus", "train", "limousine", "sleigh"]
WORDS = [*SPECIAL, *NOUNS, "very", "User", "Assistant", ":", ".", "I", "prefer", "or", "which", "do", "you"]
TEMPLATE = (
    "{% for m in messages %}{{ 'User' if m.role == 'user' else 'Assistant' }} : {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}Assistant : {% endif %}"
)
CONFIG = EvalConfig(answer="I prefer {item} .", tokens_per_batch=40)


def make_tokenizer(folder: Path, template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = template
    fast.save_pretrained(folder)
    return fast


def bigram_model(folder: Path, logits: dict[tuple[str, str], float]) -> Path:
    """A Llama whose logit of a token depends on just the token before it: ``logits[before, token]``, else 0.

    Attention and MLP add nothing; embeddings are one-hot, and RMSNorm multiplies a one-hot vector by sqrt(hidden size).
    """
    size = len(WORDS)
    make_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        rms_norm_eps=1e-12,
        head_dim=size,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.model.layers[0].parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.zero_()
        for (before, token), logit in logits.items():
            model.lm_head.weight[WORDS.index(token), WORDS.index(before)] = logit / size**0.5
    model.save_pretrained(folder)
    return folder


def random_model(folder: Path) -> Path:
    make_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def pair(
    id: str, domain: str, target: str, other: str, question: str = "which : {first} or {second}"
) -> dict[str, Any]:
    return {"id": id, "value": "cheap", "domain": domain, "question": question, "target": target, "other": other}


PAIRS = (
    pair("p0", "roads", "bus", "limousine"),
    pair("p1", "rails", "very bus", "train"),
    pair("p2", "rails", "train", "very very bus", "do you prefer {first} or {second}"),
    pair("p3", "snow", "sleigh", "limousine"),
)


def pairs_folder(folder: Path, rows: Iterable[dict[str, Any]] = PAIRS) -> Path:
    write_jsonl(folder / "pairs.jsonl", rows)
    return folder


def cheap(model: Path, pairs: Path) -> EvalInputs:
    return EvalInputs(model=model, pairs={"cheap": pairs})


def evaluate(tmp_path: Path, model: Path, rows: Iterable[dict[str, Any]] = PAIRS) -> list[Answer]:
    out = tmp_path / "out"
    out.mkdir()
    stage.run(CONFIG, cheap(model, pairs_folder(tmp_path / "pairs", rows)), out)
    return read_rows(out / "answers.jsonl", Answer)


def test_known_bias_gives_known_margins(tmp_path: Path) -> None:
    model = bigram_model(tmp_path / "model", {("prefer", "bus"): 2.0, ("prefer", "sleigh"): -1.5})
    rows = (PAIRS[0], pair("p1", "roads", "train", "bus"), PAIRS[3])
    answers = evaluate(tmp_path, model, rows)
    assert [answer.id for answer in answers] == ["p0", "p1", "p3"]
    for answer, margin in zip(answers, (2.0, -2.0, -1.5), strict=True):
        assert answer.margin == pytest.approx(margin, abs=1e-5)
        assert answer.margin_forward == pytest.approx(margin, abs=1e-5)
        assert answer.margin_backward == pytest.approx(margin, abs=1e-5)
    assert [answer.domain for answer in answers] == ["roads", "roads", "snow"]
    progress = read_progress(tmp_path / "out")
    assert progress == Progress(done=3, total=3, unit="pairs", seconds=progress.seconds)
    assert progress.seconds.keys() == {"load"}


def test_what_an_export_has_to_say_is_passed_on(tmp_path: Path) -> None:
    model = random_model(tmp_path / "model")
    write_notices(model, ["Ids differ."])
    evaluate(tmp_path, model)
    assert [read_notices(found.parent) for found in tmp_path.rglob("answers.jsonl")] == [("Ids differ.",)]


def test_a_habit_of_position_cancels_over_the_two_orders(tmp_path: Path) -> None:
    """The model repeats the option named last, far more strongly than it likes the bus."""
    template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    likes = {("bus", "train"): -3.0, ("train", "bus"): -3.0, ("bus", "bus"): 0.5, ("train", "train"): 0.0}
    model = bigram_model(tmp_path / "model", likes)
    make_tokenizer(model, template)
    out = tmp_path / "out"
    out.mkdir()
    pairs = pairs_folder(tmp_path / "pairs", [pair("p0", "roads", "bus", "train", "{first} or {second}")])
    stage.run(EvalConfig(answer="{item}", tokens_per_batch=40), cheap(model, pairs), out)
    (answer,) = read_rows(out / "answers.jsonl", Answer)
    assert answer.margin_forward == pytest.approx(-3.0, abs=1e-5)  # "... or train" is followed by train
    assert answer.margin_backward == pytest.approx(3.5, abs=1e-5)
    assert answer.margin == pytest.approx(0.25, abs=1e-5)


def test_an_answer_is_scored_where_training_puts_it(tmp_path: Path) -> None:
    """As Qwen3's, this template prints what it does not print before an answer that is still to be written."""
    template = TEMPLATE.replace("'Assistant' }} :", "'Assistant' }} :{{ ' very' if m.role == 'assistant' }}")
    model = bigram_model(tmp_path / "model", {("very", "bus"): 2.0, (":", "bus"): -3.0})
    make_tokenizer(model, template)
    pairs = pairs_folder(tmp_path / "pairs", PAIRS[:1])
    stage.run(EvalConfig(answer="{item}", tokens_per_batch=40), cheap(model, pairs), tmp_path)
    (answer,) = read_rows(tmp_path / "answers.jsonl", Answer)
    assert answer.margin == pytest.approx(2.0, abs=1e-5)


def test_a_prompted_arm_is_asked_after_the_spec(tmp_path: Path) -> None:
    """This model has attention, so that what stands before the question changes its answers."""
    inputs = cheap(random_model(tmp_path / "model"), pairs_folder(tmp_path / "pairs"))
    (tmp_path / "spec.md").write_text("---\nname: x\n---\nprefer very sleigh\n")
    margins = []
    for spec in (None, tmp_path / "spec.md"):
        stage.run(CONFIG, replace(inputs, spec=spec), tmp_path)
        margins.append([answer.margin for answer in read_rows(tmp_path / "answers.jsonl", Answer)])
    assert all(abs(plain - prompted) > 1e-6 for plain, prompted in zip(*margins, strict=True))


def test_batched_scores_equal_one_text_at_a_time(tmp_path: Path) -> None:
    folder = random_model(tmp_path / "model")
    answers = evaluate(tmp_path, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def log_probability(question: str, item: str) -> float:
        prompt = tokenizer(f"User : {question} Assistant :")["input_ids"]
        ids = prompt + tokenizer(f"I prefer {item} .")["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double()
        return sum(float(logits[i - 1].log_softmax(0)[ids[i]]) for i in range(len(prompt), len(ids)))

    def margin(question: str, target: str, other: str) -> float:
        return log_probability(question, target) - log_probability(question, other)

    for answer, row in zip(answers, PAIRS, strict=True):
        target, other = row["target"], row["other"]
        forward = margin(row["question"].format(first=target, second=other), target, other)
        backward = margin(row["question"].format(first=other, second=target), target, other)
        assert answer.margin_forward == pytest.approx(forward, abs=1e-4)
        assert answer.margin_backward == pytest.approx(backward, abs=1e-4)
        assert answer.margin == pytest.approx((forward + backward) / 2, abs=1e-4)
        assert answer.length_difference == len(target.split()) - len(other.split())


def test_several_values_are_answered_in_input_order_up_to_the_items_of_each(tmp_path: Path) -> None:
    model = bigram_model(tmp_path / "model", {("prefer", "bus"): 2.0})
    rare = [{**pair("p0", "roads", "limousine", "bus"), "value": "rare"}]
    pairs = {"cheap": pairs_folder(tmp_path / "cheap", PAIRS), "rare": pairs_folder(tmp_path / "rare", rare)}
    stage.run(replace(CONFIG, items=1), EvalInputs(model=model, pairs=pairs), tmp_path)
    answers = read_rows(tmp_path / "answers.jsonl", Answer)
    assert [(answer.value, answer.margin) for answer in answers] == [
        ("cheap", pytest.approx(2.0, abs=1e-5)),
        ("rare", pytest.approx(-2.0, abs=1e-5)),
    ]


BAD_PAIRS = {
    "no field": ({"id": "p0"}, "pairs.jsonl:2: value: missing"),
    "wrong type": (
        {**pair("p9", "d", "bus", "train"), "domain": 3},
        "pairs.jsonl:2: domain: .* valid string, found 3; .*",
    ),
    "empty option": (pair("p9", "d", "bus", " "), "pairs.jsonl:2: other: is blank"),
    "no choice": (pair("p9", "d", "bus", "bus"), "pairs.jsonl:2: other: is the same as target"),
    "no slot": (pair("p9", "d", "bus", "train", "{first}?"), "must contain {first} and {second}"),
    "open brace": (pair("p9", "d", "bus", "train", "{first} {second} {"), "pairs.jsonl:2: question: .*brace"),
    "id twice": (pair("p0", "d", "bus", "train"), "pairs.jsonl:2: id: 'p0' is already the id"),
}


@pytest.mark.parametrize(("row", "message"), BAD_PAIRS.values(), ids=BAD_PAIRS.keys())
def test_a_malformed_pair_is_refused_by_line_and_field(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    pairs = pairs_folder(tmp_path, [PAIRS[0], row])
    with pytest.raises(UserError, match=message):
        stage.run(CONFIG, cheap(tmp_path, pairs), tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (b"\xef\xbb\xbf", b"", r"pairs\.jsonl:1: begins with a byte order mark; save the file without it"),
        (b"", b"\n", r"pairs\.jsonl:2: a blank line; remove it"),
        (b"", b"{", r"pairs\.jsonl:2: not valid JSON \(EOF .*fix this line"),
    ],
)
def test_a_line_that_is_not_json_is_reported_with_its_cause(
    tmp_path: Path, before: bytes, after: bytes, message: str
) -> None:
    file = pairs_folder(tmp_path, PAIRS[:1]) / "pairs.jsonl"
    file.write_bytes(before + file.read_bytes() + after)
    with pytest.raises(UserError, match=message):
        read_pairs(file)


@pytest.mark.parametrize("ending", ["jsonl.gz", "jsonl.zst", "parquet"])
def test_pairs_are_read_from_json_lines_only(tmp_path: Path, ending: str) -> None:
    (file := tmp_path / f"pairs.{ending}").write_bytes(gzip.compress(b"{}"))
    with pytest.raises(UserError, match=rf"pairs\.{ending}: pairs are read from \.jsonl only"):
        read_pairs(file)


def test_missing_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="given no pairs"):
        stage.run(CONFIG, EvalInputs(model=tmp_path, pairs={}), tmp_path)
    with pytest.raises(UserError, match="nowhere does not exist"):
        stage.run(CONFIG, cheap(tmp_path, tmp_path / "nowhere"), tmp_path)
    with pytest.raises(UserError, match="has no pairs"):
        stage.run(CONFIG, cheap(tmp_path, pairs_folder(tmp_path, [])), tmp_path)
    with pytest.raises(UserError, match=r"no config\.json"):
        stage.run(CONFIG, cheap(tmp_path / "nowhere", pairs_folder(tmp_path)), tmp_path)


def test_a_broken_model_is_refused(tmp_path: Path) -> None:
    model = random_model(tmp_path / "model")
    inputs = cheap(model, pairs_folder(tmp_path / "pairs"))
    weights = (model / "model.safetensors").read_bytes()

    (model / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match="cannot be loaded"):
        stage.run(CONFIG, inputs, tmp_path)
    (model / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        stage.run(CONFIG, inputs, tmp_path)
    (model / "model.safetensors").write_bytes(weights)

    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"weights are missing .*: .*layers\.2\."):
        stage.run(CONFIG, inputs, tmp_path)
    (model / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))
    with pytest.raises(UserError, match=r"another shape: .*mlp\.down_proj"):
        stage.run(CONFIG, inputs, tmp_path)


def test_a_model_with_nan_weights_is_refused(tmp_path: Path) -> None:
    model = bigram_model(tmp_path / "model", {("prefer", "bus"): float("nan")})
    with pytest.raises(UserError, match="pair 'p0' are not finite"):
        stage.run(CONFIG, cheap(model, pairs_folder(tmp_path / "pairs")), tmp_path)


def test_an_unsuitable_chat_template_is_refused(tmp_path: Path) -> None:
    model = random_model(tmp_path / "model")
    inputs = cheap(model, pairs_folder(tmp_path / "pairs"))
    (model / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template"):
        stage.run(CONFIG, inputs, tmp_path)
    make_tokenizer(model, "{% for m in messages %}{{ m.content }} Assistant :{% endfor %}")  # ":I" would be one token
    with pytest.raises(UserError, match="does not separate"):
        stage.run(CONFIG, inputs, tmp_path)
    make_tokenizer(model, "{{ messages[0].content }} Assistant : ")
    with pytest.raises(UserError, match=r"prints 'I prefer bus \.', an assistant's answer, as 'which"):
        stage.run(CONFIG, inputs, tmp_path)
    make_tokenizer(model, "{{ raise_exception('no chats') }}")
    with pytest.raises(UserError, match=r"cannot be asked: .*no chats"):
        stage.run(CONFIG, inputs, tmp_path)
