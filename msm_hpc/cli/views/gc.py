"""What nobody needs below a root, and how much room it takes."""

from __future__ import annotations

from collections.abc import Sequence

from msm_hpc.base.text import few
from msm_hpc.campaign.garbage import Findings, Garbage
from msm_hpc.cli.views.table import Listing
from msm_hpc.store.store import Store


def garbage_table(found: Findings, store: Store) -> Listing:
    """A row for each sort of garbage, the largest first."""
    sorts: dict[str, list[Garbage]] = {}
    for each in found.garbage:
        sorts.setdefault(each.what, []).append(each)
    table = Listing(("what", "count", "size", "such as"), right=frozenset({"count", "size"}))
    for what, several in sorted(sorts.items(), key=lambda item: -_bytes(item[1])):
        steps = list(dict.fromkeys(each.owner for each in several))
        table.add(what, f"{len(steps):,}", size(_bytes(several)), few([_name(step, store) for step in steps[:4]]))
    return table


def size(count: float) -> str:
    """``3.4 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _bytes(several: Sequence[Garbage]) -> int:
    return sum(each.bytes for each in several)


def _name(step: str, store: Store) -> str:
    record = store.folder(step).record
    return record.name if record else step
