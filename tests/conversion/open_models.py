"""Run with another transformers in a process of its own: what each folder given computes and encodes, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = "In 2023 it was\n    42 of them, 1   2.<|im_end|> word3 word7"


def last_logits(folder: Path | str) -> list[float]:
    """Of the last of 40 tokens, in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder).float().eval()
    with torch.no_grad():
        logits: list[float] = model(torch.arange(40)[None]).logits[0, -1].tolist()
    return logits


def main() -> None:
    """The version, and by folder its logits and its ids of :data:`TEXT`."""
    found: dict[str, object] = {"version": transformers.__version__}
    for folder in sys.argv[1:]:
        ids = AutoTokenizer.from_pretrained(folder)(TEXT, add_special_tokens=False)["input_ids"]
        found[folder] = {"logits": last_logits(folder), "ids": ids}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
