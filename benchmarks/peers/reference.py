"""The plainest exact way: Hugging Face ``tokenizers`` on the whole corpus, EOD after each document, ids as int32.

usage: reference.py CORPUS TOKENIZER OUT.bin
"""

import json
import sys
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

corpus, folder, out = map(Path, sys.argv[1:])
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
tokenizer.encode_special_tokens = True  # text that looks like a special token stays text
eod = tokenizer.token_to_id(json.loads((folder / "tokenizer_config.json").read_bytes())["eos_token"])
with corpus.open(encoding="utf-8") as lines, out.open("wb") as file:
    while batch := [json.loads(line)["text"] for line in islice(lines, 1000)]:
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            file.write(np.array([*encoding.ids, eod], np.int32).tobytes())
