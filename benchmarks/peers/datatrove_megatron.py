"""datatrove's ``MegatronDocumentTokenizer`` with two tasks, each on a file of its own.

usage: datatrove_megatron.py FOLDER_OF_2_JSONL TOKENIZER EOS OUT
"""

import sys

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import MegatronDocumentTokenizer

if __name__ == "__main__":
    corpus, folder, eos, out = sys.argv[1:]
    tokenizer = MegatronDocumentTokenizer(
        output_folder=out, tokenizer_name_or_path=f"{folder}/tokenizer.json", eos_token=eos
    )
    LocalPipelineExecutor([JsonlReader(corpus), tokenizer], tasks=2, workers=2, logging_dir=f"{out}/logs").run()
