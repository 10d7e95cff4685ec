"""The store: all steps below one root folder."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from msm_hpc.graph.steps import Step
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.records import Record, Version

REGISTERED_AT_ONCE = 16


@dataclass(frozen=True)
class Store:
    """All steps below one root folder."""

    root: Path

    @property
    def jobs(self) -> Path:
        """Where the logs of jobs are."""
        return self.root / "jobs"

    def folder(self, step_id: str) -> StepFolder:
        """The folder of the step with this id."""
        return StepFolder(Path(f"{self.root}/steps/{step_id}"))  # faster than joining: there may be 10,000 steps

    def of(self, step: Step) -> StepFolder:
        """The folder of ``step``."""
        return self.folder(step.id)

    def done(self, step: Step) -> bool:
        """Whether the step's result is there and whole."""
        return self.of(step).done

    def having(self, name: str, steps: Iterable[Step]) -> dict[str, StepFolder]:
        """The folders of those of ``steps`` that have a file, or folder, of this name in theirs, by id."""
        return {step.id: folder for step in steps if ((folder := self.of(step)).path / name).exists()}

    def versions(self, record: Record) -> dict[str, Version]:
        """Which result there is of each step that this one reads, by its id; those without any are left out."""
        found = {step_id: self.folder(step_id).version for step_id in record.reads}
        return {step_id: version for step_id, version in found.items() if version}

    def unfinished(self, name: str) -> Path:
        """The folder for what can be said before all inputs of a step are there; it is made where it is missing.

        Whoever can write into the root can write into it: it is replaced by each who asks.
        """
        folder = self.root / "unfinished"
        for part in ("", *Path(name).parts):
            folder /= part
            try:
                folder.mkdir(parents=True)
                folder.chmod(stat.S_IMODE(self.root.stat().st_mode))
            except FileExistsError:
                continue
        return folder

    def folders(self) -> Iterator[StepFolder]:
        """Those of all steps that were ever planned here."""
        yield from (StepFolder(path) for path in sorted((self.root / "steps").glob("[!.]*/[!.]*")))

    def records(self, kind: str) -> Iterator[Record]:
        """Every step of a kind that was ever planned here."""
        for file in sorted((self.root / "steps" / kind).glob("*/step.json")):
            if (record := StepFolder(file.parent).record) is not None:
                yield record

    def register(self, steps: tuple[Step, ...]) -> None:
        """Write ``step.json`` of steps that are about to run; many at a time, since each waits for the disk."""
        with ThreadPoolExecutor(REGISTERED_AT_ONCE) as pool:
            list(pool.map(lambda step: self.of(step).write_record(step), steps))
