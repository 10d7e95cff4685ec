"""Finds, and checks, what a step reads: the results of other steps, and files from outside.

Every file of a result that is read is hashed first. A damaged one would change numbers without a word. To read it twice
costs little: the second time it comes from the page cache. What is damaged is withdrawn, so that the next ``msm run``
makes it again. Weights that are in memory since an earlier step of this job has read them are not read, nor hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.external_inputs import identity_of, stamp_of
from msm_hpc.graph.kinds import KINDS, Kind
from msm_hpc.graph.steps import canonical_json
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.records import Record, Version, flat
from msm_hpc.store.store import Store
from msm_hpc.training.checkpoints import kept

WEIGHTS = "checkpoint"
"""The folder of a result that has weights."""


class UpstreamMissingError(UserError):
    """An input of the step is not there: the step that makes it failed or never ran, or its result is damaged."""


@dataclass(frozen=True)
class StepInputs:
    """What a step reads.

    Attributes:
        roles: where each input lies, without those that are not made.
        shares: where the shares lie that it is gathered from, if any.
        missing: the ids of steps that are not made.
        damaged: what was found wrong with results that were made.
        stamps: what each file from outside is known by without reading it.
        versions: which result it is of each step, by its id.
    """

    record: Record
    roles: Mapping[str, Path | Mapping[str, Path]]
    shares: tuple[Path, ...]
    missing: tuple[str, ...]
    damaged: tuple[str, ...]
    stamps: Mapping[Path, str | None]
    versions: Mapping[str, Version]

    def typed(self) -> Any:
        """The inputs as the dataclass that the stage takes."""
        kind = KINDS[self.record.kind]
        if self.record.shares:
            assert kind.gather_inputs is not None
            return kind.gather_inputs(shares=self.shares)
        return kind.inputs(**self.roles)

    def refuse_missing(self) -> None:
        """Refuse to go on without the inputs that are not made.

        Raises:
            UpstreamMissingError: there are some.
        """
        if self.damaged:
            raise UpstreamMissingError(f"{'; '.join(self.damaged)}: `msm run` makes it again")
        if self.missing:
            raise UpstreamMissingError(f"make its inputs first: {', '.join(self.missing)}")

    def refuse_changed(self, store: Store) -> None:
        """Refuse a result of inputs that changed while they were read.

        Raises:
            UpstreamMissingError: the result of a step was made again.
            UserError: a file from outside changed.
        """
        now = store.versions(self.record)
        if again := [each for each, version in self.versions.items() if now.get(each, version) != version]:
            raise UpstreamMissingError(
                f"{', '.join(again)} was made again while {self.record.name} read it, so that its result may mix both: "
                "`msm run` makes it again, too"
            )
        after = _stamps(self.record)
        if changed := [str(path) for path in self.stamps if after[path] != self.stamps[path]]:
            raise UserError(
                f"{', '.join(changed)} changed while {self.record.name} read it, so that its result may mix both; "
                "leave it alone and run `msm run` again"
            )


def find_inputs(store: Store, record: Record, verify: bool) -> StepInputs:
    """Where the inputs of a step lie; with ``verify`` all files of results are read and compared with their hashes.

    Raises:
        UserError: a file from outside changed since the campaign was planned.
    """
    search = _Search(store, KINDS[record.kind], f"{record.name} ({record.id})", verify)
    versions = store.versions(record)
    if record.shares:
        shares = tuple(path for share in record.shares if (path := search.find(share, "")))
        return StepInputs(record, {}, shares, tuple(search.missing), tuple(search.damaged), {}, versions)
    search.missing += [step_id for step_id in record.after if not store.folder(step_id).done]
    stamps = _stamps(record)
    roles: dict[str, Path | dict[str, Path]] = {}
    for role, given in record.inputs.items():
        identities = record.identities[role]
        if isinstance(given, str):
            assert isinstance(identities, str)
            if path := search.find(given, identities, role):
                roles[role] = path
        else:
            assert not isinstance(identities, str)
            several = {name: search.find(each, identities[name], role) for name, each in given.items()}
            roles[role] = {name: path for name, path in several.items() if path}
    return StepInputs(record, roles, (), tuple(search.missing), tuple(search.damaged), stamps, versions)


@dataclass
class _Search:
    store: Store
    kind: Kind
    reader: str
    verify: bool
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def find(self, source: str, identity: str, role: str = "") -> Path | None:
        """The output folder of a step, or a file from outside that has not changed."""
        if Path(source).is_absolute():
            return _unchanged(Path(source), identity)
        folder = self.store.folder(source)
        if not folder.done:
            wrong = folder.damage()
        else:
            wrong = self._wrong(folder, role)
            if wrong is None:
                return folder.out
        self.damaged += [wrong] if wrong else []
        self.missing.append(source)
        return None

    def _wrong(self, folder: StepFolder, role: str) -> str | None:
        """What is wrong with the files that the step reads, as far as they are hashed now."""
        in_memory = role in self.kind.starts_from and kept.know(
            folder.out / WEIGHTS, _content(folder), lambda: self._refuse_damaged(folder)
        )
        if not self.verify:
            return None
        if role in self.kind.no_weights_of:
            return folder.verify(self.reader, lambda name: not name.startswith(f"{WEIGHTS}/"))
        return folder.verify(self.reader, lambda name: not (in_memory and _is_of_weights(name)))

    def _refuse_damaged(self, folder: StepFolder) -> None:
        """Hash the weights, before they are read after all."""
        if wrong := folder.verify(self.reader, _is_of_weights):
            raise UpstreamMissingError(f"{wrong}: `msm run` makes it again")


def _is_of_weights(name: str) -> bool:
    """Whether a file of a result has weights; those beside it in its folder, small ones, say what they are."""
    return name.startswith(f"{WEIGHTS}/") and name.endswith(".distcp")


def _content(folder: StepFolder) -> str:
    """What stands for the weights of a result."""
    published = folder.published
    files = published.files if published else {}
    named = {name: asdict(hashes) for name, hashes in files.items() if name.startswith(f"{WEIGHTS}/")}
    return hashlib.sha256(canonical_json(named).encode()).hexdigest()


def _stamps(record: Record) -> dict[Path, str | None]:
    """What each file from outside is known by without reading it; None where it is gone."""
    files = [Path(source) for source in flat(record.inputs).values() if Path(source).is_absolute()]
    return {file: stamp_of(file) if file.exists() else None for file in files}


def _unchanged(path: Path, identity: str) -> Path:
    if not path.exists():
        raise UserError(f"{path} is gone since the campaign was planned; put it back, or run `msm run` again")
    if identity_of(path) != identity:
        raise UserError(f"{path} changed since the campaign was planned; run `msm run` again to use the new content")
    return path
