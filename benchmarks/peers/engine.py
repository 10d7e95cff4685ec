"""The fast engine alone, over texts that are in memory. Prints its CPU-seconds, without loading.

usage: engine.py CORPUS TOKENIZER
"""

import json
import sys
import time
from pathlib import Path

from tokenization.engines.fast import FastEngine

corpus, tokenizer = Path(sys.argv[1]), Path(sys.argv[2], "tokenizer.json")
texts = [json.loads(line)["text"] for line in corpus.open("rb")]
engine = FastEngine(tokenizer)
begin = time.process_time()
for start in range(0, len(texts), 1000):
    engine.encode(texts[start : start + 1000])
print(json.dumps({"fastokens alone": time.process_time() - begin}))
