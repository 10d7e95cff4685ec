"""How often trained models and judges are still to be asked, before any of it is paid for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msm_hpc.campaign.session import Session
from msm_hpc.config.evals import PatternsConfig, SampleConfig, ScoreConfig
from msm_hpc.graph.steps import File, Step


def sampled_line(session: Session) -> str | None:
    """What trained models are still to be asked, on a line; None where there is nothing."""
    replies: Counter[int] = Counter()
    for step in session.graph.needed(session.store.done):
        if isinstance(step.config, SampleConfig) and step.config.shares == 1:  # of several, what they are gathered in
            replies[step.config.max_tokens] += step.config.samples * _items(step, step.config)
    counts = [f"{count:,} replies of at most {most:,} tokens" for most, count in sorted(replies.items()) if count]
    return f"To be sampled from trained models: {', '.join(counts)}; how long is not forecast" if counts else None


def _items(step: Step, config: SampleConfig) -> int:
    """What one model is asked; of the user's own pairs each in both orders, where it is known how many there are."""
    from msm_hpc.evals.tasks.known import asked_task  # here, since most campaigns sample nothing

    pairs = step.inputs.get("pairs", {})
    assert isinstance(pairs, Mapping)
    own = 2 * sum(file.rows or 0 for file in pairs.values() if isinstance(file, File))
    count = own or len(asked_task(config.task, {}).items)
    return min(count, config.items or count)


def judged_line(session: Session) -> str | None:
    """What judges are still to be asked, on a line; None where there is nothing, or choices alone."""
    asked: Counter[str] = Counter()
    choices = ""
    for step in session.graph.needed(session.store.done):
        config = step.config
        if isinstance(config, PatternsConfig):
            asked[config.judge.model] += config.coded
        if isinstance(config, ScoreConfig) and config.judge:
            asked[config.judge.model] += _questions(step, config)
            if config.task == "choice":
                choices = ", beside choices that their text leaves open"
    judges = [f"{model}: at most {count:,} requests{choices}" for model, count in asked.items() if count]
    return f"To be judged by {'; '.join(judges)}" if judges else None


def _questions(step: Step, config: ScoreConfig) -> int:
    """The most that is asked about the replies of one model, each of which may lack a text; none of choices."""
    from msm_hpc.evals.tasks.known import most_judgements  # here, since most campaigns ask no judge

    replies = step.inputs["replies"]
    assert isinstance(replies, Step) and isinstance(replies.config, SampleConfig)
    return config.samples * most_judgements(config.task, replies.config.task, replies.config.items)
