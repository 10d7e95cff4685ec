"""What below a root nobody needs any more.

That is, if it is no newer than so many days,

- a step that no campaign in ``campaigns/`` consists of, as it was last run: of a campaign that was changed, the steps
  before the change;
- what attempts left at a step that is done, or that cannot resume from it;
- a copy of the code that no queued or running job was submitted with.

A step that a queued or running job makes, and all that it is made of, is needed whatever campaign it was of.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.slurm_run import answered
from msm_hpc.config.cluster import Cluster
from msm_hpc.graph.kinds import KINDS
from msm_hpc.launch.job import JobRef
from msm_hpc.launch.slurm import SlurmLauncher
from msm_hpc.store.attempts import RECORDS
from msm_hpc.store.campaigns import campaigns, read_campaign
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.journal import Journal
from msm_hpc.store.leases import states_of
from msm_hpc.store.store import Store
from msm_hpc.store.trash import Trash

LEFT, CODE, STOPPED = "left by attempts", "copies of the code", "of a deletion that was stopped"
SECONDS_PER_DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Garbage:
    """A file or folder to delete: what it is (the kind of a step, or words of our own), whose, and what that frees.

    ``owner`` is the id of a step, or a name.
    """

    what: str
    owner: str
    path: Path
    bytes: int


@dataclass(frozen=True)
class Findings:
    """The garbage below a root; and the ids of steps of no campaign that are kept: they are too new, or a job's."""

    garbage: tuple[Garbage, ...]
    newer: tuple[str, ...]
    held: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """What deleting it all frees."""
        return sum(each.bytes for each in self.garbage)


def find_garbage(store: Store, days: float) -> Findings:
    """The garbage below the root of ``store`` that is older than so many ``days``.

    Raises:
        UserError: it cannot be known what is needed: no campaign was run here, the record of one cannot be read, or
            Slurm does not say which jobs there are.
    """
    read = _read_by_campaigns(store)
    folders = {f"{path.parent.name}/{path.name}": StepFolder(path) for path in _step_folders(store)}
    steps, used = _held(store, folders)
    held = _with_all_they_read(steps, store)
    freed, garbage, newer = _Freed(), [], []
    for path in Trash(store.root).left():
        garbage.append(Garbage(STOPPED, path.name, path, freed.by(path)))
    before = time.time() - days * SECONDS_PER_DAY
    for path in sorted((store.root / "code").glob("*")):
        if path.name not in used and path.stat().st_mtime < before:
            garbage.append(Garbage(CODE, path.name, path, freed.by(path)))
    for step_id in sorted(folders.keys() - held):
        folder, needed = folders[step_id], step_id in read
        paths = list(_leftovers(folder, step_id)) if needed else [folder.path]
        if paths and _last_change(folder) > before:
            newer += [] if needed else [step_id]
            continue
        what = LEFT if needed else step_id.partition("/")[0]
        garbage += [Garbage(what, step_id, path, freed.by(path)) for path in paths]
    return Findings(tuple(garbage), tuple(newer), tuple(sorted(held - read)))


def _read_by_campaigns(store: Store) -> frozenset[str]:
    """The ids of all steps of all campaigns."""
    names = campaigns(store.root)
    if not names:
        raise UserError(f"no campaign was run below root={store.root}, so what is needed there is not known")
    try:
        return frozenset().union(*(read_campaign(store.root, name).steps for name in names))
    except UserError as error:
        raise UserError(f"{error}. Until then what it needs is not known, and nothing is deleted") from error


def _step_folders(store: Store) -> Iterator[Path]:
    for kind in sorted((store.root / "steps").glob("[!.]*")):
        yield from sorted(path for path in kind.glob("[!.]*") if path.is_dir())


def _held(store: Store, folders: dict[str, StepFolder]) -> tuple[set[str], set[str]]:
    """The steps that a queued or running job has, by its submission, its lease or an attempt without an end.

    And the copies of the code that these jobs were submitted with.
    """
    jobs: dict[str, list[JobRef]] = {}
    submissions = answered(Journal(store.root).read(), SlurmLauncher(Cluster(launcher="slurm")))
    for submission in submissions:
        for step_id, job in submission.jobs.items():
            jobs.setdefault(step_id, []).append(job)
    for step_id, folder in folders.items():
        newest = None if folder.done else folder.newest()
        attempt = newest.read() if newest else None
        running = attempt.job if attempt and attempt.end is None else None
        jobs.setdefault(step_id, []).extend(job for job in (folder.lease(), running) if job is not None)
    alive = states_of({job for several in jobs.values() for job in several}, Journal(store.root))
    living = [each for each in submissions if each.job is None or not alive.keys().isdisjoint(each.jobs.values())]
    held = {step_id for step_id, several in jobs.items() if not alive.keys().isdisjoint(several)}
    unanswered = {step_id for each in living if each.job is None for step_id in each.steps}
    return held | unanswered, {each.code for each in living}


def _with_all_they_read(steps: Iterable[str], store: Store) -> set[str]:
    """The steps, and those that they are made of, down to the first."""
    found, left = set(), list(steps)
    while left:
        step_id = left.pop()
        if step_id not in found:
            found.add(step_id)
            record = store.folder(step_id).record
            left += (*record.reads, *record.after) if record else ()
    return found


def _leftovers(folder: StepFolder, step_id: str) -> Iterator[Path]:
    """What attempts left that no further one would resume from: all but their records."""
    kind = KINDS.get(step_id.partition("/")[0])
    if not folder.done and (kind is None or kind.resumable):
        return
    for attempt in folder.attempt_folders():
        yield from sorted(path for path in attempt.path.iterdir() if path.name not in RECORDS)
    yield from sorted((folder.path / "attempts").glob(".*"))  # of processes killed while they took a number


def _last_change(folder: StepFolder) -> float:
    """When the step was last planned, tried or made."""
    files = [folder.path, *folder.path.glob("*.json"), *folder.path.glob("attempts/*/attempt.json")]
    return max(map(_mtime, files))


def _mtime(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:  # of a process that is taking a number
        return 0.0


@dataclass
class _Freed:
    """Counts what deleting frees: of a file with several names only with the last of them."""

    names: dict[tuple[int, int], int] = field(default_factory=dict)

    def by(self, path: Path) -> int:
        """The bytes that are free once ``path`` is deleted, too."""
        try:
            return sum(map(self._file, [path, *path.rglob("*")] if path.is_dir() else [path]))
        except FileNotFoundError:  # somebody else deletes it
            return 0

    def _file(self, path: Path) -> int:
        stat = path.lstat()
        if path.is_dir():
            return 0
        key = (stat.st_dev, stat.st_ino)
        self.names[key] = self.names.get(key, 0) + 1
        return stat.st_size if self.names[key] == stat.st_nlink else 0
