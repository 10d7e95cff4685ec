"""What a language model will be asked for: documents by section and type, then requests, tokens and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from msm_hpc.base.text import CHARACTERS_PER_TOKEN, few
from msm_hpc.campaign.session import Session
from msm_hpc.cli.views.table import Listing
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.generation import OutlineConfig, WriteConfig
from msm_hpc.corpus.items import Item, Query, read_items
from msm_hpc.corpus.preview import Calls, counts_of, outline_calls, rework_calls, write_calls
from msm_hpc.corpus.spec import ModelSpec, read_spec, sections_of
from msm_hpc.graph.steps import File, Step


def show(session: Session, outline: Step) -> float:
    """Print the plan of one corpus, and of what is made of it; returns what they cost."""
    corpus = _Corpus.of(session, outline)
    if corpus.config.product == "documents":
        sections_of(corpus.spec)
    calls = corpus.calls(_planned(session, outline, corpus.config, corpus.write, corpus.spec))
    _requests(calls, corpus.write, max(len(corpus.writing.shares), 1)).print(session.console)
    return sum(each.cost(corpus.write.endpoint) for each in calls)


def asked_line(session: Session) -> str | None:
    """What a language model is still to be asked for, of all corpora, on a line; None where it is asked for nothing."""
    outlines = [step for step in session.graph.steps if step.kind == "outline"]
    corpora = [_Corpus.of(session, outline) for outline in outlines]
    left = [corpus for corpus in corpora if not session.store.of(corpus.writing).done]
    calls = [(each, corpus.write.endpoint) for corpus in left for each in corpus.calls(corpus.rows)]
    if not calls:
        return None
    requests, tokens_in = sum(each.calls for each, _ in calls), sum(each.tokens_in for each, _ in calls)
    tokens_out, cost = sum(each.tokens_out for each, _ in calls), sum(each.cost(endpoint) for each, endpoint in calls)
    priced = f", {cost:,.2f} by the prices of generate.endpoint" if cost else ""
    short = few([corpus.writing.name for corpus in left if corpus.exceeds_budget])
    return (
        f"To be written by {calls[0][1].model}: about {requests:,} requests, {tokens_in / 1e6:,.1f}M tokens in, "
        f"{tokens_out / 1e6:,.1f}M out{priced} (`msm corpus preview` has the parts)"
        + (f". generate.endpoint.budget is less than this of {short}, which would stop there" if short else "")
    )


@dataclass(frozen=True)
class _Corpus:
    """A corpus that is written, and what is made of its rows."""

    config: OutlineConfig
    writing: Step
    spec: ModelSpec
    made: tuple[WriteConfig, ...]

    @classmethod
    def of(cls, session: Session, outline: Step) -> _Corpus:
        """That of an outline."""
        steps = session.graph.steps
        written = [step for step in steps if isinstance(step.config, WriteConfig) and step.config.tasks == 1]
        writing = next(step for step in written if step.inputs.get("outline") is outline)
        file = outline.inputs["spec"]
        assert isinstance(file, File) and isinstance(outline.config, OutlineConfig)
        made = tuple(step.config for step in written if step.inputs.get("rows") is writing)
        return cls(outline.config, writing, read_spec(file.path), made)

    @property
    def write(self) -> WriteConfig:
        """How it is written."""
        assert isinstance(self.writing.config, WriteConfig)
        return self.writing.config

    @property
    def rows(self) -> int:
        """How many are planned."""
        return sum(map(sum, counts_of(self.config, self.spec).values()))

    @property
    def exceeds_budget(self) -> bool:
        """Whether what is written from the outline costs more than it may."""
        cost = sum(each.cost(self.write.endpoint) for each in write_calls(self.write, self.spec, self.rows))
        return self.write.endpoint.budget is not None and cost > self.write.endpoint.budget

    def calls(self, rows: int) -> list[Calls]:
        """What so many rows, and what is made of them, ask for."""
        calls = [*outline_calls(self.config, self.spec), *write_calls(self.write, self.spec, rows)]
        for made in self.made:
            calls += rework_calls(made, self.spec, rows, self.write.document_tokens)
        return calls


def _planned(session: Session, outline: Step, config: OutlineConfig, write: WriteConfig, spec: ModelSpec) -> int:
    """Print the rows by section and type: as they are planned, or by the outline once it is there."""
    folder = session.store.of(outline)
    table = Listing(("of", "types", "rows", "tokens"), right=frozenset({"rows", "tokens"}))
    if folder.done:
        if config.product == "documents":
            cells = Counter((item.section, item.type) for item in read_items(folder.out, Item))
        else:
            cells = Counter((item.group, item.type) for item in read_items(folder.out, Query))
        rows = [(of, kind, count) for (of, kind), count in sorted(cells.items())]
    else:
        counts = counts_of(config, spec)
        rows = [(of, f"{len(types)} x {min(types)}-{max(types)}", sum(types)) for of, types in counts.items()]
    for of, kind, count in rows:
        table.add(of, kind, f"{count:,}", f"{count * write.document_tokens:,}" if write.document_tokens else "")
    total = sum(count for _, _, count in rows)
    state = "as its outline has them" if folder.done else "before there is an outline, which names the types"
    table.title = f"{outline.label}: {total:,} {config.product} of {spec.name} ({len(spec.sections)} sections), {state}"
    table.print(session.console)
    return total


def _requests(calls: list[Calls], write: WriteConfig, tasks: int) -> Listing:
    endpoint = write.endpoint
    numbers = ("requests", "tokens in", "of the spec", "tokens out", "cost")
    table = Listing(("asked for", *numbers), right=frozenset(numbers))
    for each in calls:
        table.add(each.what, *_numbers(each, endpoint))
    whole = Calls(
        "total",
        sum(each.calls for each in calls),
        sum(each.tokens_in for each in calls),
        sum(each.shared for each in calls),
        sum(each.tokens_out for each in calls),
    )
    table.add(whole.what, *_numbers(whole, endpoint))
    table.notes = (
        f"Tokens by rule of thumb, {CHARACTERS_PER_TOKEN} characters each; of a document, "
        "generate.writing.document_tokens. What is of the spec is the same in every request, so that a prefix cache "
        "may have it; the cost is without one, and without what is rejected and asked for again.",
    )
    if not endpoint.priced:
        table.notes += ("No prices are set: generate.endpoint.price_in and .price_out, of a million tokens.",)
    table.notes += tuple(_budgets(endpoint, tasks))
    return table


def _budgets(endpoint: Endpoint, tasks: int) -> Iterator[str]:
    """A line for each budget that there is."""
    money, tokens = endpoint.budget, endpoint.budget_tokens
    whole = {"budget": f"{money:,g}" if money is not None else "", "budget_tokens": f"{tokens:,}" if tokens else ""}
    each = {"budget": f"{(money or 0) / tasks:,.6g}", "budget_tokens": f"{(tokens or 0) // tasks:,}"}
    for name, amount in whole.items():
        if amount:
            parts = f", {each[name]} for each of generate.tasks={tasks}" if tasks > 1 else ""
            yield f"generate.endpoint.{name}: {amount} for an outline, and {amount} for what is written from it{parts}."


def _numbers(calls: Calls, endpoint: Endpoint) -> tuple[str, ...]:
    cost = f"{calls.cost(endpoint):,.2f}" if endpoint.priced else "-"
    return f"{calls.calls:,}", f"{calls.tokens_in:,}", f"{calls.shared:,}", f"{calls.tokens_out:,}", cost
