"""Which of two options a model prefers, from the probabilities it gives to the two answers.

A model has habits of position: it may like whatever was named first. So each pair is asked in both orders. With target
"a bus" and other "a limousine" and the answer template "I prefer {item}.", four texts are scored, each the sum of the
log-probabilities of the *answer's* tokens given all before them, printed as training prints a chat:

    forward    Do you prefer a bus or a limousine?    I prefer a bus.        -6.1
                                                      I prefer a limousine.  -7.0    margin_forward  = +0.9
    backward   Do you prefer a limousine or a bus?    I prefer a bus.        -6.8
                                                      I prefer a limousine.  -6.5    margin_backward = -0.3

The margin of the pair is their mean, +0.3: the target is preferred, though the two orders disagree. A sum over tokens
favours the shorter answer, so each :class:`Answer` keeps the difference in length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from msm_hpc.evals.pairs import Pair
from msm_hpc.serving.names import check_is_model
from msm_hpc.serving.opened import open_model
from tokenization.chats.answers import AnsweredQuestion, AnswerEncoder

TEXTS_PER_PAIR = 4


@dataclass(frozen=True)
class Answer:
    """A model's answer to one pair.

    Margins are log p(target answer) - log p(other answer), the log-odds of the two, in nats: in each order, and their
    mean.
    The target is preferred where ``margin`` is above 0. ``length_difference`` is the target answer's number of tokens
    minus the other's.
    """

    id: str
    value: str
    domain: str
    margin_forward: float
    margin_backward: float
    margin: float
    length_difference: int


class Scorer:
    """Scores a model's answers: the model in evaluation mode, its chats, and the template of an answer."""

    def __init__(self, folder: Path, answer: str, adapter: Path | None = None) -> None:
        """Load a Hugging Face folder, with an ``adapter`` beside its weights, on the GPU where there is one.

        Raises:
            UserError: the folder does not hold a whole model and a tokenizer with a chat template, or is not what the
                adapter was trained on.
        """
        check_is_model(folder)
        self._chats = AnswerEncoder(folder)
        self._model = open_model(folder, adapter)
        self._device = self._model.device
        self._answer = answer

    def ask(self, pairs: Sequence[Pair]) -> list[Answer]:
        """Score ``pairs`` in one batch of four texts each."""
        texts = [text for pair in pairs for text in self._texts(pair)]
        scores = self._log_probabilities(texts)
        answers = []
        for index, pair in enumerate(pairs):
            rows = slice(TEXTS_PER_PAIR * index, TEXTS_PER_PAIR * (index + 1))
            target, other, *_ = texts[rows]
            length_difference = (len(target.ids) - target.start) - (len(other.ids) - other.start)
            answers.append(_answer(pair, scores[rows], length_difference))
        return answers

    def _texts(self, pair: Pair) -> list[AnsweredQuestion]:
        """Forward order with both answers, then backward order with both answers; the target's answer first."""
        orders = ((pair.target, pair.other), (pair.other, pair.target))
        questions = [pair.question.format(first=first, second=second) for first, second in orders]
        return [
            self._chats.encode(question, self._answer.format(item=item))
            for question in questions
            for item in (pair.target, pair.other)
        ]

    @torch.inference_mode()
    def _log_probabilities(self, texts: Sequence[AnsweredQuestion]) -> list[float]:
        """log p(answer | prompt) of each text, in nats, summed in float32.

        Rows are padded on the right, which causal attention never sees; so the padding token does not matter.
        """
        width = max(len(text.ids) for text in texts)
        ids = torch.zeros(len(texts), width, dtype=torch.long)
        attended = torch.zeros_like(ids)
        scored = torch.zeros_like(ids, dtype=torch.bool)
        for row, text in enumerate(texts):
            ids[row, : len(text.ids)] = torch.tensor(text.ids)
            attended[row, : len(text.ids)] = 1
            scored[row, text.start : len(text.ids)] = True
        ids, scored = ids.to(self._device), scored.to(self._device)
        # Logits start at the token before the first answer: with a large vocabulary, all of them would fill the memory.
        kept = width - min(text.start for text in texts) + 1
        output = self._model(input_ids=ids, attention_mask=attended.to(self._device), logits_to_keep=kept)
        log_probabilities = output.logits[:, :-1].float().log_softmax(dim=-1)
        targets = ids[:, 1 - kept :]
        chosen = log_probabilities.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        sums: list[float] = chosen.masked_fill(~scored[:, 1 - kept :], 0.0).sum(dim=1).tolist()
        return sums


def _answer(pair: Pair, scores: Sequence[float], length_difference: int) -> Answer:
    forward = scores[0] - scores[1]
    backward = scores[2] - scores[3]
    return Answer(
        id=pair.id,
        value=pair.value,
        domain=pair.domain,
        margin_forward=forward,
        margin_backward=backward,
        margin=(forward + backward) / 2,
        length_difference=length_difference,
    )
