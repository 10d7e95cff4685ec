"""Engines alone, over texts that are in memory. Prints the CPU-seconds of each, loading left out.

usage: engine.py CORPUS TOKENIZER
"""

import json
import sys
import time
from pathlib import Path

from tokenizers import Tokenizer

from tokenization.engines.bpe import load_bpe
from tokenization.engines.fast import FastEngine
from tokenization.engines.reference import Engine

corpus, path = Path(sys.argv[1]), Path(sys.argv[2], "tokenizer.json")
texts = [json.loads(line)["text"] for line in corpus.open("rb")]
batches = [texts[start : start + 1000] for start in range(0, len(texts), 1000)]
costs = {}
engines: dict[str, Engine] = {
    "our engine alone": load_bpe(path, Tokenizer.from_file(str(path)), []),
    "fastokens alone": FastEngine(path),
}
for name, engine in engines.items():
    begin = time.process_time()
    for batch in batches:
        engine.encode(batch)
    costs[name] = time.process_time() - begin
print(json.dumps(costs))
