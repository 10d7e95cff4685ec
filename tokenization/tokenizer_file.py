"""``tokenizer.json`` alone, for those who need no chat template and start without its libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokenization.errors import BadInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"


def load_tokenizer(path: Path) -> Tokenizer:
    """A ``tokenizer.json``, which then neither cuts nor pads nor adds tokens.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    if not path.is_file():
        raise BadInput(
            f"{path}: no such file; give a folder with {TOKENIZER} and {CONFIG} (of a model on the hub: hf download)"
        )
    from tokenizers import Tokenizer  # here, since packing hardly ever needs it

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # broad: the class that tokenizers raises, and no other
        raise BadInput(f"{path}: not a Hugging Face tokenizer ({error}); save it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # We add no special tokens; all that is left of a post-processor is that it may trim the space off the offsets.
    tokenizer.post_processor = None
    return tokenizer
