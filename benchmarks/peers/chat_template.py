"""transformers' ``apply_chat_template`` with the assistant mask, chat by chat; ids int32 and mask uint8, end to end.

The ids end at the last EOD: the template prints a line feed after it, which nothing is trained to say.

usage: chat_template.py CORPUS TOKENIZER OUT.bin OUT.mask
"""

import json
import sys
from typing import Any

import numpy as np
from transformers import AutoTokenizer

corpus, folder, bin_path, mask_path = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
eod = tokenizer.eos_token_id
with open(corpus, encoding="utf-8") as lines, open(bin_path, "wb") as ids_file, open(mask_path, "wb") as mask_file:
    for line in lines:
        chat: Any = tokenizer.apply_chat_template(
            json.loads(line)["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ids = np.array(chat["input_ids"], np.int32)
        end = np.flatnonzero(ids == eod)[-1] + 1
        ids_file.write(ids[:end].tobytes())
        mask_file.write(np.array(chat["assistant_masks"], np.uint8)[:end].tobytes())
