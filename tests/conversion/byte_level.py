"""Byte-level tokenizers that split texts otherwise than the class that their model's family names."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
LETTERS_AND_DIGITS = r" ?\p{L}{1,2}|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_TEXTS = [
    "The cheese is on the table in 2023. I prefer the bus, 1999 2024 2025.",
    "def f():\n    return\n        x\n",
] * 20


def write_bpe(folder: Path, tokenizer_class: str, **config: object) -> Path:
    """Replace the tokenizer in ``folder``; ``config`` are further fields of its ``tokenizer_config.json``."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(LETTERS_AND_DIGITS), "isolated")
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, by_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"eos_token": "<|im_end|>", "pad_token": "<|pad|>", "chat_template": CHATML}
    fields = {"tokenizer_class": tokenizer_class, **names, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    return folder
