"""What trained models and judges are still to be asked, before any of it is paid for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from msm_hpc.base.text import CHARACTERS_PER_TOKEN
from msm_hpc.campaign.asking import AskingStep
from msm_hpc.campaign.outlook import width
from msm_hpc.campaign.session import Session
from msm_hpc.campaign.views.ledger import hour_unit
from msm_hpc.cli.views.ledger import in_hours
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.evals import PatternsConfig, SampleConfig, ScoreConfig
from msm_hpc.config.stages import EvalConfig
from msm_hpc.evals.texts import read_spec_text
from msm_hpc.graph.steps import File, Step
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.planner.asking import ASSUMED_BANDWIDTH, ASSUMED_LENGTH
from msm_hpc.planner.forecast import ASSUMED_MFU

JUDGEMENT_TOKENS = 100
"""Of a judge's answer to one question, a quotation and a verdict, by rule of thumb; without thoughts."""
CODING_TOKENS = 1500
"""Of what is asked about a reply in which patterns are looked for, beside the reply, by rule of thumb."""


def asking_lines(found: Sequence[AskingStep], cluster: Cluster) -> Iterator[str]:
    """What trained models are still to be asked, and how long that takes."""
    sampled = [each for each in found if isinstance(each.step.config, SampleConfig)]
    scored = [each for each in found if isinstance(each.step.config, EvalConfig)]
    if sampled:
        time = f"{_time(sampled, cluster)}{_requeued(sampled, cluster)}"
        yield f"To be sampled from trained models: {_replies(sampled)}; {time}"
    if any(each.seconds is not None for each in scored):
        models, time = _count(len(scored), "model"), _time(scored, cluster)
        yield f"Preferences of {models} to be scored, before one has been: {time}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def _replies(sampled: Sequence[AskingStep]) -> str:
    """How many, by the most tokens that they may have, and how many tokens these are."""
    replies: Counter[int] = Counter()
    for each in sampled:
        replies[each.step.config.max_tokens] += each.replies
    parts = [f"{count:,} replies of at most {most:,} tokens" for most, count in sorted(replies.items()) if count]
    if unknown := sum(each.requests is None for each in sampled):
        parts.append(f"those of {_count(unknown, 'step')} whose pairs are not here yet")
    tokens = sum(each.requests.count * each.requests.reply for each in sampled if each.requests)
    return ", ".join(parts) + (f", {tokens / 1e6:,.1f}M tokens if {ASSUMED_LENGTH:.0%} of that" if tokens else "")


def _time(asking: Sequence[AskingStep], cluster: Cluster) -> str:
    """How long they take, and what that is from."""
    hours: dict[str, float] = defaultdict(float)
    for each in asking:
        if each.seconds is not None:
            hours[each.by] += each.seconds * width(each.step, cluster) / 3600
    if not hours:
        return "how long is known once one has run"
    assumed = f"{ASSUMED_BANDWIDTH:.0%} of the GPU's memory bandwidth and MFU {ASSUMED_MFU:.0%} assumed"
    unit, said = hour_unit(cluster.trains_on_gpus), {"formula": f"formula ({assumed})"}
    times = [f"{in_hours(each)} {unit} by {said.get(source, source)}" for source, each in hours.items()]
    unknown = sum(each.seconds is None for each in asking)
    return ", ".join(times) + (f", not counting {_count(unknown, 'step')}" if unknown else "")


def _requeued(sampled: Sequence[AskingStep], cluster: Cluster) -> str:
    """What the time limit makes of the longest."""
    if not launcher_of(cluster).queues:
        return ""
    limits = {each.step.work: 60 * cluster.resources.of(each.step.work).time_minutes for each in sampled}
    late = [each for each in sampled if each.seconds is not None and each.seconds > limits[each.step.work]]
    if not late:
        return ""
    key = cluster.resources.key(late[0].step.work, "time_minutes")
    return (
        f". {len(late)} of {len(sampled)} steps take longer than {key}, are requeued and resume: raise it, or give "
        "evals.NAME.shares"
    )


@dataclass(frozen=True)
class _Asked:
    """The most that a judge is asked, and about how many tokens that is."""

    requests: int = 0
    tokens: float = 0.0

    def __add__(self, other: _Asked) -> _Asked:
        """Both."""
        return _Asked(self.requests + other.requests, self.tokens + other.tokens)


def judged_line(session: Session) -> str | None:
    """What judges are still to be asked, on a line; None where there is nothing, or choices alone."""
    judges: dict[str, tuple[Endpoint, _Asked]] = {}
    choices = ""
    for step in session.graph.needed(session.store.done):
        config = step.config
        if isinstance(config, PatternsConfig | ScoreConfig) and (judge := config.judge):
            _, asked = judges.get(judge.model, (judge, _Asked()))
            judges[judge.model] = judge, asked + (_coded(step) if isinstance(config, PatternsConfig) else _scored(step))
            if isinstance(config, ScoreConfig) and config.task == "choice":
                choices = ", beside choices that their text leaves open"
    said = [f"{_judged(judge, asked)}{choices}" for judge, asked in judges.values() if asked.requests]
    return f"To be judged by {'; '.join(said)}" if said else None


def _judged(judge: Endpoint, asked: _Asked) -> str:
    """One judge, with what it costs where that is known."""
    written = asked.requests * JUDGEMENT_TOKENS
    return (
        f"{judge.model}: at most {asked.requests:,} requests, about {asked.tokens / 1e6:,.1f}M tokens in, "
        f"{written / 1e6:,.1f}M out by rule of thumb; {_cost(judge, asked.tokens, written)}"
    )


def _cost(judge: Endpoint, read: float, written: float) -> str:
    """What so many tokens cost, or which price that takes; and the budget where it is less."""
    prices = {"judge.price_in": judge.price_in, "judge.price_out": judge.price_out}
    if unset := [key for key, price in prices.items() if not price]:
        return f"give {' and '.join(unset)} for its cost"
    cost = (read * judge.price_in + written * judge.price_out) / 1e6
    short = judge.budget is not None and judge.budget < cost
    return f"{cost:,.2f} by its prices" + (f", and judge.budget={judge.budget:g} ends it before" if short else "")


def _scored(step: Step) -> _Asked:
    """The most that is asked about the replies of one model, each of which may lack a text; none of choices."""
    from msm_hpc.evals.tasks.known import most_judgements  # here, since most campaigns ask no judge

    config, replies = step.config, step.inputs["replies"]
    assert isinstance(config, ScoreConfig) and isinstance(replies, Step)
    each = most_judgements(config.task, replies.config.task, replies.config.items)
    spec = step.inputs.get("spec")
    characters = each.characters + (each.count * len(read_spec_text(spec.path)) if isinstance(spec, File) else 0)
    tokens = characters / CHARACTERS_PER_TOKEN + each.replies * ASSUMED_LENGTH * replies.config.max_tokens
    return _Asked(config.samples * each.count, config.samples * tokens)


def _coded(step: Step) -> _Asked:
    """What is asked of the replies in which patterns are looked for."""
    config, replies = step.config, step.inputs["replies"]
    assert isinstance(config, PatternsConfig) and isinstance(replies, Mapping)
    longest = max(each.config.max_tokens for each in replies.values() if isinstance(each, Step))
    return _Asked(config.coded, config.coded * (CODING_TOKENS + ASSUMED_LENGTH * longest))
