"""Static embeddings: a vector of each token, of which that of a sentence is the mean. No model has to be run.

A folder has ``tokenizer.json`` and ``model.safetensors``, with one tensor of vectors, as ``model2vec`` and
``sentence-transformers`` (``StaticEmbedding``) write them: ``embeddings`` or ``embedding.weight``; and where there are
any, ``weights`` of tokens, and ``mapping`` from tokens to vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.errors import UserError

VECTORS = ("embeddings", "embedding.weight")
"""What the tensor of vectors is called."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class StaticEmbeddings:
    """``vectors[token]``; ``unknown`` is the token of what the tokenizer does not know, which counts for nothing."""

    tokenizer: Any
    vectors: Floats
    unknown: int | None

    @classmethod
    def open(cls, folder: Path) -> StaticEmbeddings:
        """Read a folder.

        Raises:
            UserError: a file or tensor is missing or damaged, or there are fewer vectors than tokens.
        """
        from tokenizers import Tokenizer  # here, since most audits do without

        files = [folder / "tokenizer.json", folder / "model.safetensors"]
        for file in files:
            if not file.is_file():
                raise UserError(
                    f"{file}: no such file; a folder of static embeddings has {' and '.join(f.name for f in files)}"
                )
        try:
            tokenizer = Tokenizer.from_file(str(files[0]))
        except Exception as error:  # broad: the class that tokenizers raises, and no other
            raise UserError(f"{files[0]} is no tokenizer: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        vectors = _vectors(files[1])
        if len(vectors) < tokenizer.get_vocab_size():
            raise UserError(
                f"{folder}: {len(vectors):,} vectors, but {tokenizer.get_vocab_size():,} tokens; its files are of "
                "different embeddings"
            )
        unknown = getattr(tokenizer.model, "unk_token", None)
        return cls(tokenizer, vectors, tokenizer.token_to_id(unknown) if unknown else None)

    def of(self, texts: Sequence[str]) -> Floats:
        """The mean of the tokens of each text; zeros for one without any token that is known."""
        means = np.zeros((len(texts), self.vectors.shape[1]), np.float32)
        encodings = self.tokenizer.encode_batch_fast([*texts], add_special_tokens=False)
        for mean, encoded in zip(means, encodings, strict=True):
            if tokens := [token for token in encoded.ids if token != self.unknown]:
                mean[:] = self.vectors[tokens].mean(axis=0)
        return means


def _vectors(file: Path) -> Floats:
    """A vector of each token."""
    tensors = _tensors(file)
    name = next((each for each in VECTORS if each in tensors), None)
    if name is None:
        raise UserError(f"{file}: no tensor {' or '.join(VECTORS)}, but {', '.join(tensors)}; give static embeddings")
    vectors: Floats = tensors[name].astype(np.float32)
    if (mapping := tensors.get("mapping")) is not None:
        vectors = vectors[mapping]
    if (weights := tensors.get("weights")) is not None:
        vectors = vectors * weights.astype(np.float32)[:, None]
    return vectors


def _tensors(file: Path) -> Mapping[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except (SafetensorError, TypeError, KeyError) as error:  # damaged; or a type that numpy has not
        raise UserError(f"{file}: {error}; save the embeddings as float32 or float16") from error
