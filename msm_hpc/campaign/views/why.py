"""Why a step will run (again): the fields in which it differs from the most similar step that is done.

It is compared with steps that are no part of the campaign as it is now. A finished one of the same campaign is no
earlier version of it: ``aft/base/seed1``, still to be run, would differ from ``aft/base/seed0`` in its seed alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from msm_hpc.campaign.views.jobs import Holders, holders
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import File, Origin, Step, origins, result_fields
from msm_hpc.store.records import Record, flat
from msm_hpc.store.store import Store


def why(step: Step, graph: Graph, store: Store) -> list[str]:
    """One line for each reason why ``step`` of ``graph`` is not done; empty where it is done."""
    return _reasons(step, store, holders([step], store), _Comparison(graph.ids, store, by_name=True))


def grouped(graph: Graph, store: Store) -> dict[tuple[str, ...], list[Step]]:
    """The steps that are still to be run, by what :func:`why` says of them; Slurm is asked once."""
    groups: dict[tuple[str, ...], list[Step]] = {}
    needed = graph.needed(store.done)
    jobs, comparison = holders(needed, store), _Comparison(graph.ids, store, by_name=False)
    for step in needed:
        if reasons := _reasons(step, store, jobs, comparison):
            groups.setdefault(tuple(reasons), []).append(step)
    return groups


def _reasons(step: Step, store: Store, jobs: Holders, comparison: _Comparison) -> list[str]:
    folder = store.of(step)
    if folder.done:
        return []
    if job := jobs.running(step):
        return [f"job {job.id} holds it: {jobs.doubt}" if jobs.doubt else f"it is running, in job {job.id}"]
    if damage := folder.damage():
        return [damage]
    attempts = folder.attempts()
    if attempts and attempts[-1].cause is not None:
        return [f"its last attempt ended: {attempts[-1].cause}: {attempts[-1].message}"]
    if attempts:
        return ["its last attempt ended without a record"]
    return comparison.reasons(step)


@dataclass(frozen=True)
class _Comparison:
    """Compares steps with what is in the store, but for their ``siblings``; every record is read once."""

    siblings: frozenset[str]
    store: Store
    by_name: bool
    records: dict[str, Record | None] = field(default_factory=dict)
    distances: dict[tuple[str, str], int] = field(default_factory=dict)

    def reasons(self, step: Step) -> list[str]:
        similar = self.most_similar(step)
        if similar is None:
            return [self.never_ran(step)]
        return list(dict.fromkeys(self.differences(step, similar))) or ["the version of its kind was raised"]

    def never_ran(self, step: Step) -> str:
        """What the step waits for: the names of other steps, or their kinds."""
        waits = [parent for parent in step.parents if not self.store.of(parent).done]
        names = dict.fromkeys(parent.name if self.by_name else parent.stage for parent in waits)
        return f"not run yet: waits for {', '.join(names)}" if names else "not run yet"

    def most_similar(self, step: Step) -> Record | None:
        """The done step of the same name, else the one that differs in the fewest fields; the newest if many."""
        records = (record for record in self.store.records(step.kind) if record.id not in self.siblings)
        done = [record for record in records if self.store.folder(record.id).done]
        newest_first = sorted(done, key=lambda record: record.created, reverse=True)
        return min(
            newest_first, key=lambda record: (record.name != step.name, self.distance(step, record)), default=None
        )

    def record(self, step_id: str) -> Record | None:
        """The record of an input; None where it was a file from outside, or is gone or torn."""
        if step_id not in self.records:
            self.records[step_id] = self.store.folder(step_id).record
        return self.records[step_id]

    def distance(self, step: Step, before: Record) -> int:
        """How many fields differ between ``step`` with all it reads, and ``before`` with all it read."""
        key = (step.identity, before.id)
        if key not in self.distances:
            inputs = [self._input_distance(role, source, before) for role, source in origins(step.inputs)]
            self.distances[key] = len(_changed(step, before)) + sum(inputs)
        return self.distances[key]

    def _input_distance(self, role: str, source: Origin, before: Record) -> int:
        inputs = flat(before.inputs)
        if flat(before.identities).get(role) == source.identity:
            return 0
        if role not in inputs or isinstance(source, File):
            return 1
        other = self.record(inputs[role])
        if other is None:  # every field differs
            return 1 + len(flatten(result_fields(source.config, with_defaults=True)))
        return 1 + self.distance(source, other)

    def differences(self, step: Step, before: Record) -> Iterator[str]:
        """Changed fields of ``step``, and of the inputs that changed, down to the fields where it began."""
        changed = _changed(step, before)
        for name, (was, now) in changed.items():
            yield f"{step.name}: {name} {was} -> {now}"
        inputs, identities = flat(before.inputs), flat(before.identities)
        for role, source in origins(step.inputs):
            if role not in inputs or identities[role] == source.identity:
                continue
            other = None if isinstance(source, File) else self.record(inputs[role])
            if isinstance(source, File):
                yield f"the content of {source.path} changed"
            elif other is None:
                yield f"{step.name}: {role} was {inputs[role]} -> {source.name}"
            else:
                yield from self.differences(source, other)
        if not changed and {role for role, _ in origins(step.inputs)} != inputs.keys():
            yield f"{step.name}: it reads other inputs than {before.name} did"


def _changed(step: Step, before: Record) -> dict[str, tuple[str, str]]:
    """The config fields that differ, each with its value before and now."""
    now = flatten(result_fields(step.config, with_defaults=True))
    try:
        was = flatten(result_fields(before.typed_config(), with_defaults=True))
    except (ValueError, KeyError):  # its schema has changed since
        return {"config": ("of another version of msm_hpc", "of this one")}
    return {
        key: (_shown(was, key), _shown(now, key))
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key)
    }


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping of dotted keys to scalars; see :func:`_item`."""
    if isinstance(value, list):
        value = dict(_item(number, item) for number, item in enumerate(value))
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        key: leaf for name, item in value.items() for key, leaf in flatten(item, f"{prefix}.{name}".lstrip(".")).items()
    }


def _item(number: int, item: Any) -> tuple[str, Any]:
    """What an item of a list is called, and its value: by its name, where it has one, so that lists may grow.

    What is taken of a source goes by the source; a cell of the report is there or not.
    """
    if isinstance(item, Mapping) and "source" in item:
        return str(item["source"]), item
    if isinstance(item, Mapping) and "arm" in item:
        parts = ("model", "spec", "arm", "size", "seed")
        return "/".join(str(item[part]) for part in parts if item.get(part) is not None), "a cell"
    return str(number), item


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "(absent)"
