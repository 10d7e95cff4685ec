"""The files that a model is given with go through the model step and into the export as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig

from msm_hpc.base.errors import UserError
from msm_hpc.base.notices import read_notices
from msm_hpc.config.stages import ExportConfig
from tests.conversion.byte_level import write_bpe
from tests.conversion.models import export, import_model, make_model, weights
from tests.tokenization.real_tokenizers import real_tokenizer
from tokenization.tokenizer import load_tokenizer

TEXT = "In 2023 it was\n    42 of them, 1   2.<|im_end|>"


def ids(folder: Path) -> list[int]:
    return load_tokenizer(folder / "tokenizer.json").encode(TEXT, add_special_tokens=False).ids


def opened(folder: Path) -> list[int]:
    found: list[int] = AutoTokenizer.from_pretrained(folder)(TEXT, add_special_tokens=False)["input_ids"]
    return found


def test_every_file_but_weights_is_copied_byte_for_byte(tmp_path: Path) -> None:
    source = write_bpe(make_model(tmp_path / "source", vocab_size=512), "PreTrainedTokenizerFast")
    given = {
        "generation_config.json": '{"eos_token_id": [0, 2],   "temperature": 0.6}',
        "special_tokens_map.json": '{"eos_token":"<|im_end|>"}',
        "added_tokens.json": "{}",
        "vocab.json": '{"a": 0}',
        "merges.txt": "#version: 0.2\n",
        "LICENSE": "Apache-2.0",
        "LICENSE.txt": "Apache-2.0",
        "USE_POLICY.md": "Be kind.",
        "chat_template.jinja": "{{ messages[0].content }}\n",
        "additional_chat_templates/tool_use.jinja": "{{ tools }}",
    }
    for name, text in given.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text)
    for name in ("README.md", "trainer_state.json", "training_args.bin"):
        (source / name).write_text("not the model's")
    kept = {*given, "config.json", "tokenizer.json", "tokenizer_config.json"}
    model = import_model(source, tmp_path / "model")
    out = export(model, tmp_path / "out")
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == kept | {"model.safetensors", "checkpoint.sha256"}
    for name in kept:
        assert (model / name).read_bytes() == (source / name).read_bytes()
        assert name == "config.json" or (out / name).read_bytes() == (source / name).read_bytes()


@pytest.mark.parametrize(
    ("family", "tokenizer_class"),
    [
        ("llama", "PreTrainedTokenizerFast"),
        ("llama", "GPT2Tokenizer"),
        ("llama", "LlamaTokenizerFast"),
        ("qwen3", "Qwen2Tokenizer"),
        ("qwen3", "TokenizersBackend"),
    ],
)
def test_ids_stay_whatever_class_the_tokenizer_names(tmp_path: Path, family: str, tokenizer_class: str) -> None:
    """Transformers builds the tokenizers of these classes from the vocabulary, and splits texts by its own idea."""
    extra = {"extra_special_tokens": ["<|im_start|>"]} if tokenizer_class == "TokenizersBackend" else {}
    source = write_bpe(make_model(tmp_path / "source", family, vocab_size=512), tokenizer_class, **extra)
    model = import_model(source, tmp_path / "model")
    out = export(model, tmp_path / "out")
    assert ids(source) == ids(model) == ids(out) == opened(out)


def test_a_tokenizer_that_transformers_cannot_be_told_to_take_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_bpe(make_model(tmp_path / "source", "qwen2", vocab_size=512), "PreTrainedTokenizerFast")
    out = export(import_model(source, tmp_path / "model"), tmp_path / "out")
    assert ids(source) == ids(out) != opened(out)
    assert "makes other ids of the exports than their tokenizer.json" in caplog.text
    (notice,) = read_notices(out)
    assert notice.endswith("elsewhere, open it with PreTrainedTokenizerFast.from_pretrained.")
    caplog.clear()
    right = write_bpe(make_model(tmp_path / "right", vocab_size=512), "PreTrainedTokenizerFast")
    assert read_notices(export(import_model(right, tmp_path / "right_model"), tmp_path / "right_out")) == ()


def test_a_tokenizer_that_transformers_cannot_open_is_refused_before_training_and_in_the_export(tmp_path: Path) -> None:
    source = write_bpe(make_model(tmp_path / "source", vocab_size=512), "PreTrainedTokenizerFast")
    model = import_model(source, tmp_path / "model")
    for folder in (source, model):
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "added_tokens_decoder": {"x": "y"}}))
    message = r"its tokenizer cannot be opened by transformers \S+ \(.*\); give the model with a tokenizer_config\.json"
    with pytest.raises(UserError, match=rf"{source}: {message}"):
        import_model(source, tmp_path / "again")
    with pytest.raises(UserError, match=message):
        export(model, tmp_path / "out")


def test_a_class_that_transformers_does_not_open_is_replaced_by_the_plain_one(tmp_path: Path) -> None:
    source = write_bpe(make_model(tmp_path / "source", vocab_size=512), "MarianTokenizer")
    out = export(import_model(source, tmp_path / "model"), tmp_path / "out")
    assert json.loads((out / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert ids(source) == opened(out)


def test_ids_beyond_the_embedding_are_refused_though_tokens_are_fewer(tmp_path: Path) -> None:
    source = write_bpe(make_model(tmp_path / "source", vocab_size=512), "PreTrainedTokenizerFast")
    path = source / "tokenizer.json"
    fields = json.loads(path.read_text())
    vocabulary = fields["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.get)
    vocabulary[last] = 600
    path.write_text(json.dumps(fields))
    assert len(vocabulary) < 512
    with pytest.raises(UserError, match=r"source/tokenizer\.json: its largest id is 600 .* embedding ends at id 511"):
        import_model(source, tmp_path / "model")


def ends(folder: Path) -> Any:
    return GenerationConfig.from_pretrained(folder).eos_token_id


def test_the_end_of_a_turn_is_named_where_config_json_does_not(tmp_path: Path) -> None:
    def exported(name: str, eos: Any, **config: Any) -> Path:
        source = make_model(tmp_path / name, vocab_size=512, bos_token_id=1, eos_token_id=eos)
        (source / "generation_config.json").unlink()
        write_bpe(source, "PreTrainedTokenizerFast", **config)
        return export(import_model(source, tmp_path / f"{name}.model"), tmp_path / f"{name}.out")

    out = exported("other", 0)
    assert ends(out) == [0, 2] and GenerationConfig.from_pretrained(out).bos_token_id == 1
    assert ends(exported("several", [0, 3])) == [0, 3, 2]
    assert ends(exported("none", None)) == [2]
    for name, eos, config in (
        ("same", 2, {}),
        ("among", [0, 2], {}),
        ("plain", 0, {"chat_template": "{% for m in messages %}{{ m.content }} {% endfor %}"}),
        ("refuses", 0, {"chat_template": "{{ raise_exception('no') }}"}),
        ("base", 0, {"chat_template": None}),
    ):
        assert not (exported(name, eos, **config) / "generation_config.json").exists(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_was_trained_in_is_exported_in(tmp_path: Path, dtype: torch.dtype) -> None:
    source = make_model(tmp_path / "source", dtype=dtype)
    out = export(import_model(source, tmp_path / "model"), tmp_path / "out", ExportConfig())
    assert {weight.dtype for weight in weights(out).values()} == {dtype}
    config = json.loads((out / "config.json").read_text())
    assert config["dtype"] == config["torch_dtype"] == str(dtype).removeprefix("torch.")


def test_a_folder_without_tokenizer_json_gets_one_from_its_vocabulary(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_model(tmp_path / "source", "qwen2", vocab_size=512)
    write_bpe(source, "Qwen2Tokenizer")
    fields = json.loads((source / "tokenizer.json").read_text())
    (source / "vocab.json").write_text(json.dumps(fields["model"]["vocab"]))
    (source / "merges.txt").write_text("".join(f"{' '.join(pair)}\n" for pair in fields["model"]["merges"]))
    (source / "tokenizer.json").unlink()
    expected = opened(source)
    model = import_model(source, tmp_path / "model")
    assert ids(model) == expected
    assert "source has no tokenizer.json: transformers built one" in caplog.text
    (source / "vocab.json").write_text("{")
    with pytest.raises(UserError, match="source: its tokenizer cannot be opened by transformers"):
        import_model(source, tmp_path / "again")


def test_a_sentencepiece_model_alone_gives_its_own_ids(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    source = make_model(tmp_path / "source", vocab_size=512)
    for path in source.glob("*token*"):
        path.unlink()
    texts = [
        "The cheese is on the table in 2023.",
        "def f():",
        "    return x",
        "\u00dcn\u00efc\u00f6de \u6771\u4eac",
    ] * 50

    def train(add_dummy_prefix: bool) -> None:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_prefix=str(source / "tokenizer"),
            vocab_size=340,
            model_type="bpe",
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=add_dummy_prefix,
            minloglevel=2,
        )

    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (source / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", **names}))
    train(add_dummy_prefix=True)
    model = import_model(source, tmp_path / "model")
    made = load_tokenizer(model / "tokenizer.json")
    own = sentencepiece.SentencePieceProcessor(model_file=str(source / "tokenizer.model"))
    for text in (TEXT, "  The cheese\n", "\u6771\u4eac"):
        assert made.encode(text, add_special_tokens=False).ids == own.encode(text)
    export(model, tmp_path / "out")
    train(add_dummy_prefix=False)
    with pytest.raises(UserError, match=r"tokenizer\.model makes other ids of .* give the tokenizer\.json"):
        import_model(source, tmp_path / "again")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "family", "tokenizer_class"),
    [("qwen25", "qwen2", "Qwen2Tokenizer"), ("llama3", "llama", "PreTrainedTokenizerFast")],
)
def test_the_ids_of_published_tokenizers_pass_the_gate(
    name: str,
    family: str,
    tokenizer_class: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = make_model(tmp_path / "source", family, vocab_size=151_936)
    for path in source.glob("*token*"):
        path.unlink()
    shutil.copytree(real_tokenizer(name, tmp_path_factory), source, dirs_exist_ok=True)
    config = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": tokenizer_class}))
    out = export(import_model(source, tmp_path / "model"), tmp_path / "out")
    assert "makes other ids" not in caplog.text
    assert (out / "tokenizer_config.json").read_bytes() == (source / "tokenizer_config.json").read_bytes()
