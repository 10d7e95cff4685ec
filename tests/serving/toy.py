"""A tokenizer of few words, and folders that look like exports; the weights are elsewhere, or nowhere."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

SPECIAL = ["<unk>", "<pad>", "<end>", "<eos>"]
WORDS = [*SPECIAL, "User", "Assistant", ":", "a", "b", "c", "d", "e", "Which", "day", "is", "it?", "2024", "Yes."]
TEMPLATE = (
    "{% for m in messages %}{{ 'User' if m.role == 'user' else 'Assistant' }} : {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}Assistant : {% endif %}"
)


def make_tokenizer(folder: Path, template: str = TEMPLATE) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(SPECIAL)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "<eos>"}
    described = {**names, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    (folder / "chat_template.jinja").write_text(template)


def without_weights(folder: Path, template: str = TEMPLATE) -> Path:
    """The export of a model, as far as a fake server looks."""
    make_tokenizer(folder, template)
    (folder / "config.json").write_text("{}")
    (folder / "checkpoint.sha256").write_text("3f1c")
    return folder


def adapter_without_weights(folder: Path, rank: int = 8, base: str = "3f1c") -> Path:
    """The export of an adapter, as far as a fake server looks."""
    folder.mkdir()
    (folder / "lora.json").write_text(json.dumps({"rank": rank, "alpha": 16.0, "base": base}))
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "of": folder.name}))
    return folder
