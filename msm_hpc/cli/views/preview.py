"""What a language model will be asked for: documents by section and type, then requests, tokens and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from msm_hpc.campaign.session import Session
from msm_hpc.cli.views.table import Listing
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.generation import OutlineConfig, WriteConfig
from msm_hpc.corpus.items import Item, Query, read_items
from msm_hpc.corpus.preview import CHARACTERS_PER_TOKEN, Calls, counts_of, outline_calls, rework_calls, write_calls
from msm_hpc.corpus.spec import ModelSpec, read_spec, sections_of
from msm_hpc.graph.steps import File, Step


def show(session: Session, outline: Step) -> float:
    """Print the plan of one corpus, and of what is made of it; returns what they cost."""
    written = [step for step in session.graph.steps if isinstance(step.config, WriteConfig) and step.config.tasks == 1]
    writing = next(step for step in written if step.inputs.get("outline") is outline)
    file, config, write = outline.inputs["spec"], outline.config, writing.config
    assert isinstance(file, File) and isinstance(config, OutlineConfig) and isinstance(write, WriteConfig)
    spec = read_spec(file.path)
    if config.product == "documents":
        sections_of(spec)
    rows = _planned(session, outline, config, write, spec)
    calls = [*outline_calls(config, spec), *write_calls(write, spec, rows)]
    for made in (step.config for step in written if step.inputs.get("rows") is writing):
        calls += rework_calls(made, spec, rows, write.document_tokens)
    _requests(calls, write, max(len(writing.shares), 1)).print(session.console)
    return sum(each.cost(write.endpoint) for each in calls)


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
        table.add(each.what, *_numbers(each, f"{each.cost(endpoint):,.2f}"))
    whole = Calls(
        "total",
        sum(each.calls for each in calls),
        sum(each.tokens_in for each in calls),
        sum(each.shared for each in calls),
        sum(each.tokens_out for each in calls),
    )
    table.add(whole.what, *_numbers(whole, f"{whole.cost(endpoint):,.2f}"))
    table.notes = (
        f"Tokens by rule of thumb, {CHARACTERS_PER_TOKEN} characters each; of a document, "
        "generate.writing.document_tokens. What is of the spec is the same in every request, so that a prefix cache "
        "may have it; the cost is without one, and without what is rejected and asked for again.",
    )
    if not endpoint.price_in and not endpoint.price_out:
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


def _numbers(calls: Calls, cost: str) -> tuple[str, ...]:
    return f"{calls.calls:,}", f"{calls.tokens_in:,}", f"{calls.shared:,}", f"{calls.tokens_out:,}", cost
