"""Elements of an array that read different elements of another one: each starts as soon as its own inputs are there.

Slurm lets an array wait for an array, or element i for element i (``aftercorr``). Where neither says what is meant, a
campaign would need an array for each pattern. So such an array waits for all that any of its elements reads, which is
always right; and who makes one of these steps, or gives it up, then tells Slurm which elements need wait no longer::

    midtrain   [0] [1]                                         [1] has ended:
    aft        [0] [1] [2] [3]    afterany:midtrain            scontrol update JobId=aft_[2-3] Dependency=

The journal says which steps each element waits for. A job that dies before it could tell is no harm: what reads its
step waits for the whole array, and ends then, since its input is missing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence

from msm_hpc.launch import slurm_commands
from msm_hpc.launch.job import user_name
from msm_hpc.store.journal import Journal, Submission
from msm_hpc.store.store import Store

log = logging.getLogger(__name__)


@contextlib.contextmanager
def releasing(store: Store, step_id: str) -> Iterator[None]:
    """Once the step is made, or is given up by its job, release the elements that waited for it."""
    try:
        yield
    finally:
        folder = store.folder(step_id)
        if folder.done:
            release(Journal(store.root).waiting_for(step_id), lambda waits: step_id in waits and _there(waits, store))
        elif folder.lease() is None:
            release(Journal(store.root).waiting_for(step_id), lambda waits: step_id in waits)


def release_ready(submissions: Sequence[Submission], store: Store) -> None:
    """Release the elements of which all inputs came while they were submitted."""
    release(submissions, lambda waits: _there(waits, store))


def release(submissions: Sequence[Submission], ready: Callable[[Sequence[str]], bool]) -> None:
    """Let those elements start of which what they wait for is ``ready``."""
    for each in submissions:
        elements = [element for element, waits in enumerate(each.waits) if ready(waits)]
        if elements and each.job and each.user == user_name():
            refusal = slurm_commands.drop_dependency(each.job, elements, len(each.elements))
            log.info("elements %s of job %s need not wait: %s", elements, each.job, refusal or "accepted")


def _there(waits: Sequence[str], store: Store) -> bool:
    return all(store.folder(step_id).done for step_id in waits)
