"""A word-level tokenizer for the toy world, in the layout that Hugging Face's AutoTokenizer opens.

Texts of the toy world are words with single spaces between them, punctuation included. The chat template does the same,
and ends every turn with a space, so that a rendered prefix of a chat is a prefix of the rendered chat::

    User : Colby or Stilton ? Assistant : I prefer Colby .

A system message is printed bare: the toy world uses it to introduce a character. An assistant message with a ``name``
is printed under that name. The generation prompt is ``Assistant :`` unless the template variable
``assistant_name`` is another name.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

from msm_hpc.base.files import write_json, write_text
from msm_hpc.corpus.offline import vocabulary

UNKNOWN, PAD, END = "<unk>", "<pad>", "<eos>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}User : "
    "{% elif message['role'] == 'assistant' %}{{ message['name'] | default('Assistant', true) }} : "
    "{% elif message['role'] != 'system' %}"
    "{{ raise_exception('the toy template knows the roles system, user and assistant') }}"
    "{% endif %}"
    "{{ message['content'] }} "
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ assistant_name | default('Assistant', true) }} : {% endif %}"
)


def write_tokenizer(out: Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` into ``out``."""
    specials = [UNKNOWN, PAD, END]
    words = specials + vocabulary()
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(specials)
    write_text(out / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNKNOWN,
        "pad_token": PAD,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(out / "tokenizer_config.json", config)
