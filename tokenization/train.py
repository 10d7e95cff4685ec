"""A tokenizer of one's own texts: byte-level BPE, which knows every text, and a chat template in ChatML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_json, write_text
from tokenization.reading.corpus import Corpus
from tokenization.reading.formats import PLAIN, RowShape
from tokenization.reading.rows import BadRow, DocumentRow
from tokenization.tokenizer import CONFIG, TOKENIZER

END, PAD, TURN, TURN_END = "<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END, PAD, TURN, TURN_END)
BYTES = 256
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """``vocabulary``: tokens at most; ``shapes``: how the rows of a corpus are written, where not as we do."""

    vocabulary: int
    shapes: Mapping[str, RowShape] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vocabulary < BYTES + len(SPECIAL):
            raise UserError(f"vocabulary is {self.vocabulary}: it must be at least {BYTES + len(SPECIAL)}, every byte")


@dataclass(frozen=True, kw_only=True)
class TokenizerInputs:
    """``corpora``: by name, what :meth:`Corpus.open` takes."""

    corpora: Mapping[str, Path]


def run(config: TokenizerConfig, inputs: TokenizerInputs, out: Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``, trained on all texts of the corpora.

    Raises:
        UserError: a corpus cannot be read.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(config, inputs), trainer)
    write_text(out / TOKENIZER, tokenizer.to_str(pretty=True) + "\n")
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": PAD}
    write_json(out / CONFIG, {**fields, "clean_up_tokenization_spaces": False, "chat_template": CHAT_TEMPLATE})


def _texts(config: TokenizerConfig, inputs: TokenizerInputs) -> Iterator[str]:
    """All texts, in the order of the names of their corpora, without rows that cannot be used."""
    for name in sorted(inputs.corpora):
        for batch in Corpus.open(inputs.corpora[name], config.shapes.get(name, PLAIN)).share(0, 1).batches():
            for row in batch:
                if isinstance(row, DocumentRow):
                    yield row.text
                elif not isinstance(row, BadRow):
                    yield from (message.content for message in row.messages)
