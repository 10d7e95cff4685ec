"""What the Slurm cluster here has: partitions and their nodes, QOS, and limits; with one call of each command."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from msm_hpc.base.errors import UserError
from msm_hpc.launch import slurm_commands
from msm_hpc.launch.job import user_name

SINFO = ("sinfo", "--all", "--exact", "--noheader", "--format=%P|%a|%l|%D|%c|%m|%G|%f")
SACCTMGR = ("sacctmgr", "--noheader", "--parsable2", "show")


@dataclass(frozen=True)
class Nodes:
    """Nodes of one shape: ``cpus``, memory in MB and GPUs of each. ``gpu_types`` are as the site names them."""

    count: int
    cpus: int
    memory: int
    gpus: int
    gpu_types: frozenset[str]
    features: frozenset[str]


@dataclass(frozen=True)
class Partition:
    """``state`` is ``up``, ``down``, ``drain`` or ``inact``; ``minutes`` the time limit, None where there is none."""

    name: str
    state: str
    minutes: int | None
    nodes: tuple[Nodes, ...]


@dataclass(frozen=True)
class Qos:
    """The limits of a QOS: minutes of a job, and the jobs that a user may have queued; None where there is none."""

    minutes: int | None
    submitted: int | None


@dataclass(frozen=True)
class Account:
    """What a user may do under one account; an empty ``qos`` is any."""

    name: str
    qos: frozenset[str]
    default_qos: str
    limits: Qos


@dataclass(frozen=True)
class Limits:
    """Of the whole cluster: elements of an array, jobs in the queue. The defaults are Slurm's."""

    array_size: int = 1001
    jobs: int = 10_000
    enforced: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Site:
    """Partitions and QOS by name. ``default`` is the partition of jobs that name none.

    ``qos`` and ``accounts`` are empty where there is no accounting to ask, or where it enforces nothing.
    """

    partitions: Mapping[str, Partition]
    default: str | None
    limits: Limits
    qos: Mapping[str, Qos]
    accounts: tuple[Account, ...]


def read_site() -> Site | None:
    """What the cluster here has; None where there is no sinfo.

    Raises:
        UserError: Slurm does not answer.
    """
    if not slurm_commands.has("sinfo"):
        return None
    partitions, default = parse_partitions(slurm_commands.answer_of(*SINFO))
    limits = read_limits()
    qos, accounts = "", ""
    if limits.enforced & {"associations", "limits", "qos", "all"} and slurm_commands.has("sacctmgr"):
        mine = ("assoc", f"user={user_name()}", "format=Account,QOS,DefaultQOS,MaxWall,MaxSubmitJobs")
        qos = slurm_commands.answer_if_any(*SACCTMGR, "qos", "format=Name,MaxWall,MaxSubmitJobsPerUser")
        accounts = slurm_commands.answer_if_any(*SACCTMGR, *mine)
    return Site(partitions, default, limits, parse_qos(qos), parse_accounts(accounts))


def read_limits() -> Limits:
    """The limits of the cluster here; Slurm's defaults where nobody answers."""
    try:
        return parse_limits(slurm_commands.settings())
    except UserError:
        return Limits()


def parse_limits(settings: Mapping[str, str]) -> Limits:
    """From what ``scontrol show config`` says."""
    defaults = Limits()
    size = int(settings.get("MaxArraySize", defaults.array_size))
    at_once = re.search(r"\bmax_array_tasks=(\d+)", settings.get("SchedulerParameters", ""))
    return Limits(
        array_size=min(size, int(at_once[1])) if at_once else size,
        jobs=int(settings.get("MaxJobCount", defaults.jobs)),
        enforced=frozenset(settings.get("AccountingStorageEnforce", "").split(",")),
    )


def parse_partitions(text: str) -> tuple[dict[str, Partition], str | None]:
    """The partitions that :data:`SINFO` prints, and the name of the default one: a line for each shape of node."""
    found: dict[str, Partition] = {}
    default = None
    for name, state, limit, count, cpus, memory, gres, features in _rows(text, 8):
        gpus = re.findall(r"(?:^|,)gpu:(?:([^:,()]+):)?(\d+)", gres)
        nodes = Nodes(
            count=int(count),
            cpus=_number(cpus),
            memory=_number(memory),
            gpus=sum(int(each) for _, each in gpus),
            gpu_types=frozenset(kind for kind, _ in gpus if kind),
            features=frozenset(features.split(",")) - {"(null)"},
        )
        if name.endswith("*"):
            name = default = name[:-1]
        before = found[name].nodes if name in found else ()
        found[name] = Partition(name, state, minutes(limit), (*before, nodes) if nodes.count else before)
    return found, default


def parse_qos(text: str) -> dict[str, Qos]:
    """Name, time limit and most submitted jobs, as sacctmgr prints them."""
    return {name: Qos(minutes(limit), _limit(most)) for name, limit, most in _rows(text, 3)}


def parse_accounts(text: str) -> tuple[Account, ...]:
    """Account, QOS, default QOS, time limit and most submitted jobs, as sacctmgr prints them."""
    return tuple(
        Account(name, frozenset(filter(None, qos.split(","))), default, Qos(minutes(limit), _limit(most)))
        for name, qos, default, limit, most in _rows(text, 5)
    )


def minutes(text: str) -> int | None:
    """Of one of Slurm's times, such as ``2-00:00:00``, ``12:00:00`` or ``30:00``; None where there is no limit."""
    if not re.fullmatch(r"(\d+-)?\d+(:\d+)*", text):
        return None
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days or len(parts) == 3:
        hours, in_minutes = (*parts, 0)[:2]
        return int(days or 0) * 1440 + hours * 60 + in_minutes
    return parts[0]


def _rows(text: str, columns: int) -> Iterator[Sequence[str]]:
    rows = (line.strip().split("|") for line in text.splitlines())
    return (row for row in rows if len(row) == columns)


def _number(text: str) -> int:
    """Of ``64``, of ``64+`` (at least that), and of ``n/a``, where a partition has no nodes."""
    digits = re.match(r"\d+", text)
    return int(digits[0]) if digits else 0


def _limit(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
