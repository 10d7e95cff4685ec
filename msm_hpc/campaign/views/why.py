"""Why a step will run (again): the fields in which it differs from the most similar step that is done.

It is compared with steps that are no part of the campaign as it is now. A finished one of the same campaign is no
earlier version of it: ``aft/base/seed1``, still to be made, would differ from ``aft/base/seed0`` in its seed alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import File, Step, result_fields
from msm_hpc.launch.jobs import living
from msm_hpc.store.store import Record, Store


def why(step: Step, graph: Graph, store: Store) -> list[str]:
    """One line for each reason why ``step`` of ``graph`` is not done; empty where it is done."""
    return _reasons(step, store, _Comparison(_ids(graph), store, by_name=True))


def _reasons(step: Step, store: Store, comparison: _Comparison) -> list[str]:
    folder = store.of(step)
    if folder.done:
        return []
    attempts = folder.attempts()
    lease = folder.lease()
    if lease is not None and living([lease]):
        return [f"it is being made, by job {lease.id}"]
    if attempts and attempts[-1].cause is not None:
        return [f"its last attempt ended: {attempts[-1].cause}: {attempts[-1].message}"]
    if attempts:
        return ["its last attempt vanished without a word"]
    return comparison.reasons(step)


def grouped(graph: Graph, store: Store) -> dict[tuple[str, ...], list[Step]]:
    """The steps that are not done, by what :func:`why` says of them."""
    groups: dict[tuple[str, ...], list[Step]] = {}
    comparison = _Comparison(_ids(graph), store, by_name=False)
    for step in graph.steps:
        if reasons := _reasons(step, store, comparison):
            groups.setdefault(tuple(reasons), []).append(step)
    return groups


def _ids(graph: Graph) -> frozenset[str]:
    return frozenset(step.id for step in graph.steps)


@dataclass(frozen=True)
class _Comparison:
    """Compares steps with what is in the store, but for their ``siblings``; every record is read once."""

    siblings: frozenset[str]
    store: Store
    by_name: bool
    records: dict[str, Record] = field(default_factory=dict)
    distances: dict[tuple[str, str], int] = field(default_factory=dict)

    def reasons(self, step: Step) -> list[str]:
        similar = self.most_similar(step)
        if similar is None:
            return [self.never_made(step)]
        return list(dict.fromkeys(self.differences(step, similar))) or ["the version of its kind was raised"]

    def never_made(self, step: Step) -> str:
        """What the step waits for: the names of other steps, or their kinds."""
        waits = [parent for parent in step.parents if not self.store.of(parent).done]
        told = dict.fromkeys(parent.name if self.by_name else parent.kind for parent in waits)
        return f"not made yet: waits for {', '.join(told)}" if told else "not made yet"

    def most_similar(self, step: Step) -> Record | None:
        """The done step of the same name, else the one that differs in the fewest fields; the newest if many."""
        records = (record for record in self.store.records(step.kind) if record.id not in self.siblings)
        done = [record for record in records if self.store.folder(record.id).done]
        newest_first = sorted(done, key=lambda record: record.created, reverse=True)
        return min(
            newest_first, key=lambda record: (record.name != step.name, self.distance(step, record)), default=None
        )

    def record(self, step_id: str) -> Record:
        if step_id not in self.records:
            self.records[step_id] = self.store.folder(step_id).read_record()
        return self.records[step_id]

    def distance(self, step: Step, before: Record) -> int:
        """How many fields differ between ``step`` with all it reads, and ``before`` with all it read."""
        key = (step.identity, before.id)
        if key not in self.distances:
            inputs = [self._input_distance(role, source, before) for role, source in step.inputs.items()]
            self.distances[key] = len(_changed(step, before)) + sum(inputs)
        return self.distances[key]

    def _input_distance(self, role: str, source: Step | File, before: Record) -> int:
        if before.identities.get(role) == source.identity:
            return 0
        if role not in before.inputs or isinstance(source, File):
            return 1
        return 1 + self.distance(source, self.record(before.inputs[role]))

    def differences(self, step: Step, before: Record) -> Iterator[str]:
        """Changed fields of ``step``, and of the inputs that changed, down to the fields where it began."""
        changed = _changed(step, before)
        for name, (was, now) in changed.items():
            yield f"{step.name}: {name} {was} -> {now}"
        for role, source in step.inputs.items():
            if role not in before.inputs or before.identities[role] == source.identity:
                continue
            if isinstance(source, File):
                yield f"the content of {source.path} changed"
            else:
                yield from self.differences(source, self.record(before.inputs[role]))
        if not changed and step.inputs.keys() != before.inputs.keys():
            yield f"{step.name}: it reads other inputs than {before.name} did"


def _changed(step: Step, before: Record) -> dict[str, tuple[str, str]]:
    """The config fields that differ, each with its value before and now."""
    was, now = flatten(result_fields(before.typed_config())), flatten(result_fields(step.config))
    return {
        key: (_shown(was, key), _shown(now, key))
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key)
    }


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping of dotted keys to scalars; an item with a ``source`` is called by it."""
    if isinstance(value, list):
        named = all(isinstance(item, dict) and "source" in item for item in value)
        value = {item["source"] if named else str(i): item for i, item in enumerate(value)}
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        key: leaf for name, item in value.items() for key, leaf in flatten(item, f"{prefix}.{name}".lstrip(".")).items()
    }


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "(absent)"
