"""Why a step will run (again): the fields in which it differs from the most similar step that is done.

It is compared with steps that are no part of the campaign as it is now. A finished one of the same campaign is no
earlier version of it: ``aft/base/seed1``, still to be run, would differ from ``aft/base/seed0`` in its seed alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from msm_hpc.base.text import few
from msm_hpc.campaign.views.ends import ended
from msm_hpc.campaign.views.jobs import Holders, holders
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import File, Origin, Step, origins, result_fields
from msm_hpc.store.records import Record, flat
from msm_hpc.store.store import Store

MOST = 8
"""Reasons of one step, or steps that it waits for, that are named one by one."""


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
    if store.done(step):
        return []
    if held := jobs.in_words(step):
        return [f"it {held}"]
    if damage := store.of(step).damage():
        return [damage]
    end = ended(step, store, jobs)
    if end is None or end.cause == "upstream":
        return comparison.reasons(step)
    if end.cause == "done":
        return [f"its result was deleted: {store.of(step).out}"]
    return [f"its last attempt ended: {end}"]


@dataclass(frozen=True)
class _Comparison:
    """Compares steps with what is in the store, but for their ``siblings``; every record is read once."""

    siblings: frozenset[str]
    store: Store
    by_name: bool
    records: dict[str, Record | None] = field(default_factory=dict)
    distances: dict[tuple[str, str], int] = field(default_factory=dict)
    done: dict[str, list[Record]] = field(default_factory=dict)
    fields: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)

    def reasons(self, step: Step) -> list[str]:
        similar = self.most_similar(step)
        if similar is None:
            return [self.never_ran(step)]
        found = list(dict.fromkeys(self.differences(step, similar))) or ["the version of its kind was raised"]
        more = len(found) - MOST
        return [*found[:MOST], *([f"and {more:,} more differences"] if more > 0 else [])]

    def never_ran(self, step: Step) -> str:
        """What the step waits for: the names of other steps, or their kinds."""
        waits = [parent for parent in step.parents if not self.store.of(parent).done]
        names = list(dict.fromkeys(self.called(parent) for parent in waits))
        return f"not run yet: waits for {few(names, MOST)}" if names else "not run yet"

    def called(self, step: Step) -> str:
        """The step's name, or what it has in common with others of its stage, so that reasons may be shared."""
        return step.name if self.by_name else step.stage

    def most_similar(self, step: Step) -> Record | None:
        """The done step of the same name, else that of its stage that differs in fewest fields; the newest if many."""
        return min(
            self.earlier(step.kind, step.stage),
            key=lambda record: (record.name != step.name, self.distance(step, record)),
            default=None,
        )

    def earlier(self, kind: str, stage: str) -> list[Record]:
        """The steps of a stage that are done, but for the siblings; the newest first."""
        if kind not in self.done:
            records = (record for record in self.store.records(kind) if record.id not in self.siblings)
            found = [record for record in records if self.store.folder(record.id).done]
            self.done[kind] = sorted(found, key=lambda record: record.created, reverse=True)
        return [record for record in self.done[kind] if record.name.startswith(f"{stage}/")]

    def record(self, step_id: str) -> Record | None:
        """The record of an input; None where it was a file from outside, or is gone or torn."""
        if step_id not in self.records:
            self.records[step_id] = self.store.folder(step_id).record
        return self.records[step_id]

    def changed(self, step: Step, before: Record) -> dict[str, tuple[str, str]]:
        """The config fields that differ, each with its value before and now."""
        now, was = self.now(step), self.before(before)
        if was is None:
            return {"config": ("of another version of msm_hpc", "of this one")}
        return {
            key: (_shown(was, key), _shown(now, key))
            for key in sorted(was.keys() | now.keys(), key=lambda key: (key.startswith("cells."), key))
            if was.get(key) != now.get(key)
        }

    def now(self, step: Step) -> Mapping[str, Any]:
        """The config fields of a step that decide its result."""
        if (found := self.fields.get(step.identity)) is None:
            found = self.fields[step.identity] = flatten(result_fields(step.config, with_defaults=True))
        return found

    def before(self, record: Record) -> Mapping[str, Any] | None:
        """Those of a record; None where its schema has changed since."""
        if record.id not in self.fields:
            try:
                self.fields[record.id] = flatten(result_fields(record.typed_config(), with_defaults=True))
            except (ValueError, KeyError):
                self.fields[record.id] = None
        return self.fields[record.id]

    def distance(self, step: Step, before: Record) -> int:
        """How many fields differ between ``step`` with all it reads, and ``before`` with all it read."""
        key = (step.identity, before.id)
        if key not in self.distances:
            inputs = [self._input_distance(role, source, before) for role, source in origins(step.inputs)]
            self.distances[key] = len(self.changed(step, before)) + sum(inputs)
        return self.distances[key]

    def _input_distance(self, role: str, source: Origin, before: Record) -> int:
        inputs = flat(before.inputs)
        if flat(before.identities).get(role) == source.identity:
            return 0
        if role not in inputs or isinstance(source, File):
            return 1
        other = self.record(inputs[role])
        if other is None:  # every field differs
            return 1 + len(self.now(source))
        return 1 + self.distance(source, other)

    def differences(self, step: Step, before: Record) -> Iterator[str]:
        """Changed fields of ``step``, and of the inputs that changed, down to the fields where it began."""
        changed = self.changed(step, before)
        for name, (was, now) in changed.items():
            yield f"{self.called(step)}: {name} {was} -> {now}"
        inputs, identities = flat(before.inputs), flat(before.identities)
        for role, source in origins(step.inputs):
            if role not in inputs or identities[role] == source.identity:
                continue
            other = None if isinstance(source, File) else self.record(inputs[role])
            if isinstance(source, File):
                yield f"the content of {source.path} changed"
            elif other is None:
                yield f"{self.called(step)}: {role} was {inputs[role]} -> {source.name}"
            else:
                yield from self.differences(source, other)
        if not changed and {role for role, _ in origins(step.inputs)} != inputs.keys():
            yield f"{self.called(step)}: it reads other inputs than {before.name} did"


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
