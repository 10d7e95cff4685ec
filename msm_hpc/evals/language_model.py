"""A model in this process: log-probabilities and hidden states of texts, computed once where texts begin alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msm_hpc.evals.prefixes import Ids, Row, beginning_of_all, rows_of
from msm_hpc.model.architecture import read_architecture
from msm_hpc.serving.names import check_is_model
from msm_hpc.serving.opened import open_model


@dataclass(frozen=True)
class States:
    """Hidden states of one text, both (layers, width) float32.

    Attributes:
        before: of the token before its start: what the model is about to say.
        within: the mean over its tokens from the start on.
    """

    before: NDArray[np.float32]
    within: NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """What all texts begin with: its length in tokens, and its keys and values; None of nothing."""

    length: int
    cache: Any


class LanguageModel:
    """A Hugging Face model in evaluation mode, on the GPU where there is one, with an ``adapter`` beside its weights.

    ``tokens`` bounds what is computed at once, and so its memory, unless one text, or what all of them begin with, is
    longer. ``name`` is the folder of what was trained.

    Raises:
        UserError: the folder holds no whole model of a family that we know, or not the one that the adapter was trained
            on.
    """

    def __init__(self, folder: Path, adapter: Path | None, tokens: int) -> None:
        check_is_model(folder)
        # Of a family that we do not know it is not known that it attends as the mask says.
        self.shape = read_architecture(folder).shape
        self._model = open_model(folder, adapter)
        self._tokens = tokens
        self.name = adapter or folder

    def log_probabilities(self, texts: Sequence[Ids], starts: Sequence[int]) -> Iterator[dict[int, float]]:
        """log p of the tokens of each text from its ``start`` (at least 1) on, given all before, in nats.

        Texts come batch by batch, in no order; they are summed in float32.
        """
        head = self._head(texts, starts)
        for row in rows_of([ids[head.length : -1] for ids in texts], self._tokens):  # nothing follows a last token
            begins = [starts[text] - 1 - head.length for text in row.texts]
            before = [path[begin:] for begin, path in zip(begins, row.paths, strict=True)]
            targets = np.concatenate([texts[text][starts[text] :] for text in row.texts])
            nodes, places = np.unique(np.concatenate(before), return_inverse=True)
            chosen = self._chosen(head, row, nodes, places, targets)
            ends = np.cumsum([len(path) for path in before])[:-1]
            yield {text: float(part.sum()) for text, part in zip(row.texts, np.split(chosen, ends), strict=True)}

    def states(self, texts: Sequence[Ids], starts: Sequence[int]) -> Iterator[dict[int, States]]:
        """What each layer holds of each text before its ``start`` (at least 1) and from there on; batch by batch."""
        head = self._head(texts, starts)
        for row in rows_of([ids[head.length :] for ids in texts], self._tokens):
            hidden = self._hidden(head, row)
            begins = [starts[text] - head.length for text in row.texts]
            yield {
                text: States(
                    before=hidden[:, path[begin - 1]].cpu().numpy(),
                    within=hidden[:, path[begin:]].mean(dim=1).cpu().numpy(),
                )
                for text, begin, path in zip(row.texts, begins, row.paths, strict=True)
            }

    @torch.inference_mode()
    def _head(self, texts: Sequence[Ids], starts: Sequence[int]) -> Head:
        """What all texts begin with, such as a system turn: computed once for all rows."""
        length = min(beginning_of_all(texts), min(starts) - 1)  # a row has what precedes each start
        if length == 0:
            return Head(0, None)
        output = self._model(input_ids=self._tensor(texts[0][:length])[None], use_cache=True, logits_to_keep=1)
        return Head(length, output.past_key_values)

    @torch.inference_mode()
    def _hidden(self, head: Head, row: Row) -> Tensor:
        """(layers, nodes, width) float32: the residual stream after each layer; after the last one, normalised."""
        states = self._run(head, row, output_hidden_states=True, logits_to_keep=1).hidden_states
        return torch.stack([layer[0].float() for layer in states[1:]])  # the first are the embeddings

    @torch.inference_mode()
    def _chosen(self, head: Head, row: Row, nodes: Ids, places: Ids, targets: Ids) -> NDArray[np.float32]:
        """log p of each target after the node ``nodes[place]``; logits of all nodes would fill the memory."""
        logits = self._run(head, row, logits_to_keep=self._tensor(nodes)).logits[0].float()
        chosen = logits[self._tensor(places), self._tensor(targets)] - logits.logsumexp(dim=-1)[self._tensor(places)]
        numbers: NDArray[np.float32] = chosen.cpu().numpy()
        return numbers

    def _run(self, head: Head, row: Row, **options: Any) -> Any:
        """One forward pass over a row, each node of which sees the head, too."""
        attended = torch.from_numpy(np.pad(row.attended(), ((0, 0), (head.length, 0)), constant_values=True))
        attended = attended.to(self._model.device)
        # Added to the scores, which every kernel of attention knows; some would take booleans for numbers.
        mask = torch.zeros(attended.shape, dtype=self._model.dtype, device=self._model.device)
        mask.masked_fill_(~attended, torch.finfo(mask.dtype).min)
        output = self._model(
            input_ids=self._tensor(row.ids)[None],
            position_ids=self._tensor(row.positions)[None] + head.length,
            attention_mask=mask[None, None],
            past_key_values=head.cache,
            use_cache=head.cache is not None,
            **options,
        )
        if head.cache is not None:
            head.cache.crop(-len(row.ids))  # the row has put its own keys and values behind the head's
        return output

    def _tensor(self, numbers: Ids | Sequence[int]) -> Tensor:
        return torch.as_tensor(np.asarray(numbers, np.int64), device=self._model.device)
