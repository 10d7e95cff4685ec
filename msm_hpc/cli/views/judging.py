"""How often a judge is still to be asked, before any of it is paid for."""

from __future__ import annotations

from collections import Counter

from msm_hpc.campaign.session import Session
from msm_hpc.config.evals import PatternsConfig, SampleConfig, ScoreConfig
from msm_hpc.graph.steps import Step


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
