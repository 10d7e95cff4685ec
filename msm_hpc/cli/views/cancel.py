"""The jobs of a campaign that are to be cancelled, and those that are left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msm_hpc.base.text import few
from msm_hpc.campaign.cancelling import Cancellation, Held
from msm_hpc.campaign.session import Session
from msm_hpc.cli.views.table import Listing


def print_cancellation(session: Session, found: Cancellation) -> None:
    """A row for each array or job on its own, and a line for each reason to leave some."""
    names = {step.id: step.name for step in session.graph.steps}
    if found.jobs:
        jobs_table(session, found.jobs, names).print(session.console)
    for why, several in found.left.items():
        ids = few([each.job.id for each in several])
        steps = few(_names(several, names, session))
        session.say(f"Left: job {ids} of {steps}: {why}")


def jobs_table(session: Session, jobs: Sequence[Held], names: Mapping[str, str]) -> Listing:
    """The jobs, elements of an array together."""
    arrays: dict[tuple[str, str], list[Held]] = {}
    for each in jobs:
        arrays.setdefault(each.array, []).append(each)
    table = Listing(("job", "jobs", "states", "steps"), right=frozenset({"jobs"}))
    for (launcher, array), several in arrays.items():
        states = Counter(each.state.word for each in several)
        words = ", ".join(f"{count} {word}" for word, count in sorted(states.items()))
        job = array if launcher == "slurm" else f"process {array}"
        table.add(job, f"{len(several):,}", words, few(_names(several, names, session), most=1))
    return table


def _names(several: Iterable[Held], names: Mapping[str, str], session: Session) -> list[str]:
    return [_name(step_id, names, session) for each in several for step_id in each.steps]


def _name(step_id: str, names: Mapping[str, str], session: Session) -> str:
    """What a step is called; one that is no part of the campaign as it is now has its name in its record."""
    if step_id in names:
        return names[step_id]
    record = session.store.folder(step_id).record
    return record.name if record else step_id
