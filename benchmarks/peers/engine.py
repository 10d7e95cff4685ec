"""The engine alone: fastokens over texts that are in memory. Prints its CPU-seconds, loading left out.

usage: engine.py CORPUS TOKENIZER
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")  # as ours: its own threads would cost it more
import fastokens

corpus, folder = map(Path, sys.argv[1:])
texts = [json.loads(line)["text"] for line in corpus.open("rb")]
batches = [texts[start : start + 1000] for start in range(0, len(texts), 1000)]
tokenizer = fastokens.Tokenizer.from_file(str(folder / "tokenizer.json"))
begin = time.process_time()
for batch in batches:
    tokenizer.encode_batch_flat(batch, split_special_tokens=True)
print(json.dumps({"cpu": time.process_time() - begin}))
