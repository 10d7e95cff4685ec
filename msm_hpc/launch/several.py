"""What a job needs that makes several steps: a log for each, and word from one step to those after it.

The log of a step lies beside the job's own, which has what Slurm and the script say::

    64_3_0_log.err      64_3.train-0123456789abcdef_0_log.err

Word is left in marks, files among the logs that name this start of the job, and its lane where steps run side by side:
what was made or is to run again in one lane is no matter of the others. Word of a step that failed on one of its ranks
is for the others, which may be on other nodes.
"""

from __future__ import annotations

import os
from pathlib import Path

import submitit

from msm_hpc.base.files import write_text
from msm_hpc.launch.job import current_start

SEVERAL = "MSM_SEVERAL_STEPS"
"""The variable that the script of such a job sets."""
MADE = "made"
"""The mark that a step was made: the next one has less than the job's time."""
STOPPED = "stopped"
"""The mark that a step was stopped by a signal: the job is about to end."""
AGAIN = "again"
"""The mark of a lane that it ends, and that the job is to run again when all lanes have ended."""
FAILED = "failed"
"""With the name of a step: the mark that one of its ranks failed."""
LANE = "MSM_LANE"
"""The variable that tells a process which lane of its job it is in; absent where nothing runs side by side."""
_LOG = "MSM_LOG"


def begin_log(step_id: str) -> None:
    """In a job of several steps: from now on this process and those that it starts write into the log of this step."""
    if SEVERAL not in os.environ:
        return
    job = submitit.JobEnvironment()
    name = f"{job.job_id}.{name_of(step_id)}_{job.global_rank}_log"
    for number, ending in ((1, "out"), (2, "err")):
        with (job.paths.folder / f"{name}.{ending}").open("ab") as file:
            os.dup2(file.fileno(), number)
    os.environ[_LOG] = str(job.paths.folder / f"{name}.err")


def name_of(step_id: str) -> str:
    """The id of a step as a part of a file's name."""
    return step_id.replace("/", "-")


def current_log() -> str:
    """The file that this process's standard error goes to, or an empty string outside of a job of ours."""
    try:
        return os.environ.get(_LOG) or str(submitit.JobEnvironment().paths.stderr)
    except RuntimeError:
        return ""


def mark(word: str, text: str = "") -> None:
    """In a job of several steps: leave the mark ``word`` for those that this start of the job makes after this one."""
    if SEVERAL in os.environ:
        write_text(_mark(word), text, durable=False)


def marked(word: str) -> bool:
    """Whether a step that this start of the job made before left the mark ``word``."""
    return SEVERAL in os.environ and _mark(word).exists()


def _mark(word: str) -> Path:
    folder: Path = submitit.JobEnvironment().paths.folder
    lane = os.environ.get(LANE)
    return folder / f".{word}.{current_start()}{f'.{lane}' if lane and word != STOPPED else ''}"
