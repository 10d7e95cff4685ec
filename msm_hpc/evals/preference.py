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

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msm_hpc.base.errors import DivergedError
from msm_hpc.evals.language_model import LanguageModel
from msm_hpc.evals.pairs import TEXTS_PER_PAIR, Pair
from tokenization.chats.answers import AnsweredQuestion, AnswerEncoder


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
    """Scores a model's answers, each written into the template ``answer``, after a ``system`` turn if there is one.

    Raises:
        UserError: the folder does not hold a whole model and a tokenizer with a chat template, or is not what the
            adapter was trained on.
    """

    def __init__(self, folder: Path, answer: str, tokens: int, adapter: Path | None = None, system: str = "") -> None:
        self._model = LanguageModel(folder, adapter, tokens)
        self._chats = AnswerEncoder(folder)
        self._answer = answer
        self._system = system

    def ask(self, pairs: Sequence[Pair], report: Callable[[int], None]) -> list[Answer]:
        """Score ``pairs``; ``report`` is given how many are done.

        Raises:
            DivergedError: a log-probability is not finite.
        """
        texts = [text for pair in pairs for text in answered(pair, self._answer, self._chats, self._system)]
        scores: dict[int, float] = {}
        for batch in self._model.log_probabilities([text.ids for text in texts], [text.start for text in texts]):
            self._check_finite(batch, pairs)
            scores |= batch
            report(len(scores) // TEXTS_PER_PAIR)
        lengths = [len(text.ids) - text.start for text in texts]
        return [
            _answer(pair, [scores[text] for text in range(first, first + TEXTS_PER_PAIR)], lengths[first : first + 2])
            for pair, first in zip(pairs, range(0, len(texts), TEXTS_PER_PAIR), strict=True)
        ]

    def _check_finite(self, scores: Mapping[int, float], pairs: Sequence[Pair]) -> None:
        for text, score in scores.items():
            if not math.isfinite(score):
                pair = pairs[text // TEXTS_PER_PAIR].id
                raise DivergedError(
                    f"{self._model.name}: the log-probabilities of pair {pair!r} are not finite: the training diverged"
                )


def answered(pair: Pair, answer: str, chats: AnswerEncoder, system: str = "") -> list[AnsweredQuestion]:
    """Forward order with both answers, then backward order with both answers; the target's answer first."""
    orders = ((pair.target, pair.other), (pair.other, pair.target))
    questions = [pair.question.format(first=first, second=second) for first, second in orders]
    return [
        chats.encode(question, answer.format(item=item), system)
        for question in questions
        for item in (pair.target, pair.other)
    ]


def _answer(pair: Pair, scores: Sequence[float], lengths: Sequence[int]) -> Answer:
    forward = scores[0] - scores[1]
    backward = scores[2] - scores[3]
    return Answer(
        id=pair.id,
        value=pair.value,
        domain=pair.domain,
        margin_forward=forward,
        margin_backward=backward,
        margin=(forward + backward) / 2,
        length_difference=lengths[0] - lengths[1],
    )
