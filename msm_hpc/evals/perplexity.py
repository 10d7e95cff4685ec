"""The ``perplexity`` stage: how well a model predicts texts that it was not trained on.

Writes ``scores.parquet`` with the metric ``nll`` of each document: nats a token, which is the logarithm of the
document's perplexity. A model that training has damaged predicts ordinary text worse than the one that it began as.

Documents are encoded as training encodes them, each with EOD at its end, by the model's own tokenizer; the first token
has nothing before it, and is not predicted. So numbers compare arms of one model, not models whose tokenizers differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

from msm_hpc.base.errors import DivergedError, UserError
from msm_hpc.base.notices import read_notices, write_notices
from msm_hpc.base.progress import ProgressFile
from msm_hpc.base.scores import Score, write_scores
from msm_hpc.config.evals import PerplexityConfig, PerplexityInputs
from msm_hpc.evals.held_out.paragraphs import Document, paragraphs
from msm_hpc.evals.language_model import LanguageModel
from msm_hpc.evals.prefixes import Ids
from tokenization.engines.reference import ReferenceEngine
from tokenization.reading.corpus import Corpus
from tokenization.reading.rows import BadRow, DocumentRow, Row
from tokenization.tokenizer import TokenizerFolder


def run(config: PerplexityConfig, inputs: PerplexityInputs, out: Path) -> None:
    """Score ``inputs.documents``, or the paragraphs that ship, by ``inputs.model``; write ``out/scores.parquet``.

    Raises:
        UserError: the model or the documents cannot be used, or the training diverged.
    """
    documents = paragraphs() if inputs.documents is None else _given(config, inputs.documents)
    texts = _encoded(documents, inputs.model, config.longest)
    progress = ProgressFile(out, total=len(documents), unit="documents")
    with progress.timing("load"):
        model = LanguageModel(inputs.model, inputs.adapter, config.tokens_per_batch)
    found: dict[int, float] = {}
    for batch in model.log_probabilities(texts, [1] * len(texts)):
        found |= {text: -score / (len(texts[text]) - 1) for text, score in batch.items()}
        for text in batch:
            if not math.isfinite(found[text]):
                document = documents[text].id
                raise DivergedError(f"{model.name}: document {document!r} has no finite probability: it diverged")
        progress.update(len(found))
    scores = (Score(config.eval, "nll", each.kind, each.id, 0, found[text]) for text, each in enumerate(documents))
    write_scores(out, scores)
    write_notices(out, read_notices(inputs.model, inputs.adapter))


def _given(config: PerplexityConfig, corpus: Path) -> list[Document]:
    """The first documents of a corpus of the user's own."""
    batches = Corpus.open(corpus, config.shape).share(0, 1).batches()
    rows = islice(map(_document, chain.from_iterable(batches)), config.count)
    return [Document(f"{number}:{row.id}", "documents", row.text) for number, row in enumerate(rows)]


def _document(row: Row | BadRow) -> DocumentRow:
    if isinstance(row, BadRow):
        raise row
    if not isinstance(row, DocumentRow):
        raise UserError(f"{row.place}: a chat, and perplexity reads documents; name a source of texts")
    return row


def _encoded(documents: Sequence[Document], folder: Path, longest: int) -> list[Ids]:
    """The tokens of each document as training has them, cut to the ``longest``."""
    tokenizer = TokenizerFolder(folder)
    engine = ReferenceEngine(tokenizer.tokenizer)
    encoded = engine.encode([each.text for each in documents], tokenizer.facts.eod_id)
    return [encoded[number][:longest] for number in range(len(encoded))]
