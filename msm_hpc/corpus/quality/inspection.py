"""All gates of a corpus, and what else its page shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msm_hpc.config.quality import Limits
from msm_hpc.corpus.quality import attribution, frequent, identity, leaks, realism
from msm_hpc.corpus.quality import balance as balances
from msm_hpc.corpus.quality.audit import Exposure, audit
from msm_hpc.corpus.quality.balance import Balance
from msm_hpc.corpus.quality.embeddings import StaticEmbeddings
from msm_hpc.corpus.quality.gate import Gate
from msm_hpc.corpus.quality.leaks import Item
from msm_hpc.corpus.quality.losses import by_reason, given_up, written
from msm_hpc.corpus.quality.meaning import meaning_leaks
from msm_hpc.corpus.quality.near import near_duplicates
from msm_hpc.corpus.quality.rows import Row, Rows, Subject
from msm_hpc.corpus.quality.samples import samples

SAMPLES = 20


@dataclass(frozen=True)
class Inspection:
    """What was found; ``skipped`` says which gates were not asked, and why."""

    files: tuple[Path, ...]
    gates: tuple[Gate, ...]
    balance: Balance
    rejects: Mapping[str, int]
    exposures: tuple[Exposure, ...]
    samples: tuple[Row, ...]
    skipped: tuple[str, ...]


def inspect(
    rows: Rows,
    subject: Subject,
    evaluations: Mapping[str, Sequence[Item]],
    limits: Limits,
    embeddings: StaticEmbeddings | None = None,
    seed: int = 0,
) -> Inspection:
    """Go through the rows of a corpus, once for each question.

    Raises:
        UserError: a line is no row.
    """
    found = balances.balance(rows)
    items = [item for each in evaluations.values() for item in each]
    gates = [*_gates(rows, subject, items, found, limits)]
    if items and embeddings:
        gates.append(meaning_leaks(rows, items, embeddings, limits))
    return Inspection(
        files=rows.files,
        gates=tuple(gates),
        balance=found,
        rejects=by_reason(written(rows.files)),
        exposures=audit(rows, evaluations) if evaluations else (),
        samples=tuple(samples(rows, SAMPLES, seed)),
        skipped=tuple(_skipped(subject, items, embeddings)),
    )


def _gates(rows: Rows, subject: Subject, items: Sequence[Item], found: Balance, limits: Limits) -> Iterator[Gate]:
    if corpora := written(rows.files):
        yield given_up(corpora, limits)
    yield near_duplicates(rows, limits)
    for most in (frequent.full_names, frequent.names, frequent.phrases):
        yield most(rows, subject, limits)
    yield identity.other_assistants(rows, subject, limits)
    if subject.persona:
        yield identity.unnamed(rows, subject.persona.assistant, limits)
    if subject.specs:
        yield attribution.unattributed(rows, subject, limits)
        yield realism.verbatim(rows, subject, limits)
    yield attribution.hinted(rows, subject, limits)
    for leftover in (realism.placeholders, realism.dates, realism.remarks, realism.options):
        yield leftover(rows, limits)
    if items:
        yield leaks.option_leaks(rows, items, limits)
        yield leaks.question_leaks(rows, items, limits)
    yield balances.sections(found, subject, limits)
    yield balances.types(found, limits)
    yield balances.lengths(rows, limits)


def _skipped(subject: Subject, items: Sequence[Item], embeddings: StaticEmbeddings | None) -> Iterator[str]:
    if not subject.persona:
        yield "whether documents call the assistant by its name: give --assistant and --provider"
    if not subject.specs:
        yield "attribution of preferences, and quotations of the spec: give --spec"
    if not items:
        yield "leaks of an evaluation: no items are given (--items, or campaign.values)"
    elif embeddings is None:
        yield "leaks by meaning: no static embeddings are given (--embeddings, or quality.embeddings)"
