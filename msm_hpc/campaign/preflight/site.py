"""Whether the Slurm cluster here has what its profile asks for, before sbatch refuses it or a job waits for ever.

sbatch knows better what it accepts, but says "Requested node configuration is not available". Here each line says which
key of the profile asks for what, what there is, and what to set.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Cluster, Gpu, Resources
from msm_hpc.graph.bundles import plan_bundles
from msm_hpc.graph.steps import Step
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.launch.slurm_site import Account, Nodes, Partition, Qos, Site


@dataclass(frozen=True)
class SiteCheck:
    """Lines of what cannot run here, and of what should be known."""

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def look_at_site(needed: Sequence[Step], cluster: Cluster) -> SiteCheck:
    """Hold the profile against the cluster here; where it does not answer, that is all that is said."""
    try:
        site = launcher_of(cluster).site()
    except UserError as error:
        where = "that the cluster has what the profile asks for is checked where its Slurm answers, as on a login node"
        return SiteCheck(notes=(f"{where}: {error}",))
    if site is None or not site.partitions:
        return SiteCheck()
    return SiteCheck(tuple(site_problems(needed, cluster, site)), tuple(site_notes(needed, cluster, site)))


def site_problems(needed: Iterable[Step], cluster: Cluster, site: Site) -> Iterator[str]:
    """What jobs of the steps ``needed`` ask for and the site does not have, each once."""
    alike = {(cluster.resources.of(step.work), step.ranks_per_node, step.nodes): step for step in needed}
    asked = [_Asked(step, cluster, site) for step in alike.values()]
    yield from dict.fromkeys(problem for each in asked for problem in each.problems())
    if cluster.max_array_size and cluster.max_array_size > site.limits.array_size:
        yield (
            f"cluster.max_array_size is {cluster.max_array_size}, but Slurm takes {site.limits.array_size} here "
            "(MaxArraySize, max_array_tasks): set it to null, which asks Slurm"
        )


def site_notes(needed: Sequence[Step], cluster: Cluster, site: Site) -> Iterator[str]:
    """What may stop jobs for a while: a partition that is down, limits of queued jobs."""
    limits = {f"{site.limits.jobs} (MaxJobCount)": site.limits.jobs}
    for asked in {cluster.resources.of(step.work): _Asked(step, cluster, site) for step in needed}.values():
        for partition in asked.partitions:
            if partition.state == "down":
                yield f"partition {partition.name} is down: jobs wait there until it is up"
        limits |= {f"{most} (MaxSubmitJobs of {name})": most for name, most in asked.submitted.items()}
    if cluster.exclusive:
        yield from _idle(needed, cluster, site)
    name = min(limits, key=limits.__getitem__)
    if len(needed) <= limits[name]:
        return
    jobs = len(plan_bundles(needed, lambda step: None, 0))  # fewer, where trainings share one
    if jobs > limits[name]:
        yield f"up to {jobs} jobs are to be queued, and Slurm takes {name} at a time: a job submits the rest later"


def _idle(needed: Iterable[Step], cluster: Cluster, site: Site) -> Iterator[str]:
    """What jobs leave idle of the nodes that they have for themselves, all stages alike in a line."""
    stages: dict[tuple[str, int, int, str], list[str]] = defaultdict(list)
    for step in {(step.stage, step.work, step.ranks_per_node, step.nodes): step for step in needed}.values():
        asked = _Asked(step, cluster, site)
        cpus, _, gpus = asked.on_a_node()
        counted = gpus if gpus.count else cpus
        there = max((int(counted.has(nodes)) for each in asked.partitions for nodes in each.nodes), default=0)
        if counted.count < there:
            stages[",".join(asked.names), there, int(counted.count), counted.unit].append(step.stage)
    for (partition, there, used, unit), alike in stages.items():
        fix = "layouts whose ranks divide them" if unit == "GPUs" else "a larger cpus_per_rank of theirs"
        yield (
            f"a job has its nodes for itself, and of the {there} {unit} of one in partition {partition} those of "
            f"{', '.join(dict.fromkeys(alike))} use {used} at most: a larger cluster.ranks_per_node or {fix} uses more"
        )


@dataclass(frozen=True)
class _Asked:
    """What the jobs of ``step``, and of steps like it, ask for."""

    step: Step
    cluster: Cluster
    site: Site

    def problems(self) -> Iterator[str]:
        """What the site does not have."""
        up = [each.name for each in self.site.partitions.values() if each.state == "up"]
        choose = f": set it to one of {', '.join(up)}" if up else ", and none is up: ask who administers the cluster"
        if unknown := [name for name in self.names if name not in self.site.partitions]:
            missing = f"no partition {', '.join(unknown)}" if unknown != [""] else "no default partition"
            yield f"{self.setting('partition')}: there is {missing} here{choose}"
            return
        for partition in self.partitions:
            if partition.state not in ("up", "down"):
                yield f"{self.setting('partition')}: {partition.name} takes no jobs ({partition.state}){choose}"
        yield from self._account_problems()
        yield from self._time_problems()
        yield from self._node_problems()

    @cached_property
    def resources(self) -> Resources:
        """With what this stage and model have of their own."""
        return self.cluster.resources.of(self.step.work)

    @property
    def names(self) -> list[str]:
        """The partitions that may run it; an empty name where there is no default."""
        return (self.resources.partition or self.site.default or "").split(",")

    @property
    def partitions(self) -> list[Partition]:
        """Those of :attr:`names` that there are."""
        return [self.site.partitions[name] for name in self.names if name in self.site.partitions]

    @property
    def accounts(self) -> list[Account]:
        """Those that it may be charged to."""
        return [each for each in self.site.accounts if self.resources.account in (None, each.name)]

    @property
    def submitted(self) -> Mapping[str, int]:
        """The most jobs that may be queued, by who limits it."""
        return {name: limit.submitted for name, limit in self._limits().items() if limit.submitted is not None}

    def setting(self, item: str) -> str:
        """A key with its value."""
        value = getattr(self.resources, item)
        shown = "null" if value is None else f"{value:g}" if isinstance(value, float) else value
        return f"{self.cluster.resources.key(self.step.work, item)}={shown}"

    def _limits(self) -> Mapping[str, Qos]:
        """Of the account and the QOS that it is charged to, as far as these are known."""
        account = self.accounts[0] if len(self.accounts) == 1 else None
        qos = self.resources.qos or (account.default_qos if account else "")
        known = {f"QOS {qos}": self.site.qos[qos]} if qos in self.site.qos else {}
        return known | ({f"account {account.name}": account.limits} if account else {})

    def _account_problems(self) -> Iterator[str]:
        if self.site.accounts and not self.accounts:
            yours = ", ".join(dict.fromkeys(each.name for each in self.site.accounts))
            yield f"{self.setting('account')}: set it to one of yours, {yours}"
        allowed = set[str]().union(*(each.qos for each in self.accounts))
        if self.resources.qos and allowed and self.resources.qos not in allowed:
            yield f"{self.setting('qos')}: set it to one that you may use, {', '.join(sorted(allowed))}"

    def _time_problems(self) -> Iterator[str]:
        limits = {name: limit.minutes for name, limit in self._limits().items() if limit.minutes is not None}
        of_partitions = [each.minutes for each in self.partitions if each.minutes is not None]
        if len(of_partitions) == len(self.partitions):
            limits[f"partition {','.join(self.names)}"] = max(of_partitions)
        for name, minutes in limits.items():
            if self.resources.time_minutes > minutes:
                yield f"{self.setting('time_minutes')}: {name} gives at most {minutes}: set it to that"

    def _node_problems(self) -> Iterator[str]:
        """Which of what a job asks for on each node no node has; or that too few nodes have all of it."""
        where, nodes = ",".join(self.names), [nodes for partition in self.partitions for nodes in partition.nodes]
        feature = self.resources.constraint or ""
        if re.fullmatch(r"[\w.-]+", feature):  # one alone, not a formula of several
            features = set[str]().union(*(each.features for each in nodes))
            nodes = [each for each in nodes if feature in each.features]
            if not nodes:
                fix = f"they have {', '.join(sorted(features)) or 'no features'}; set it to one of these, or null"
                yield f"{self.setting('constraint')}: no node of partition {where} has it: {fix}"
                return
        asked, lacking = self.on_a_node(), False
        for each in asked:
            most = max(map(each.has, nodes), default=0)
            if each.count > most:
                lacking = True
                ranks = self.ranks
                yield (
                    f"{self.setting(each.key)}: {self.step.stage} has {ranks} rank(s) on a node, and those of "
                    f"partition {where} have at most {most:.4g} {each.unit}: {each.lower(int(most), ranks)}"
                )
        fitting = sum(n.count for n in nodes if all(each.has(n) >= each.count for each in asked))
        if not lacking and fitting < self.step.nodes:
            whole = ", ".join(f"{each.count:g} {each.unit}" for each in asked)
            yield (
                f"{self.step.stage} takes {self.step.nodes} node(s) of {whole}, and partition {where} has {fitting}: "
                f"change {self.setting('partition')}, what is asked for on a node, or stages.{self.step.stage}.layout"
            )
        yield from self._gpu_problems(where, frozenset[str]().union(*(each.gpu_types for each in nodes)))

    @cached_property
    def ranks(self) -> int:
        """On a node, of all that runs side by side there."""
        step = self.step
        return step.ranks_per_node * launcher_of(self.cluster).lanes(step.work, step.ranks, step.nodes)

    def on_a_node(self) -> tuple[_OnANode, _OnANode, _OnANode]:
        """What a job asks for of a node: CPUs, memory and GPUs."""
        ranks, each = self.ranks, self.resources
        return (
            _OnANode("cpus_per_rank", ranks * each.cpus_per_rank, "CPUs", lambda nodes: nodes.cpus),
            _OnANode("memory_gb", ranks * each.memory_gb, "GiB of memory", lambda nodes: nodes.memory / 1024),
            _OnANode("gpus_per_node", ranks if each.gpus_per_node else 0, "GPUs", lambda nodes: nodes.gpus),
        )

    def _gpu_problems(self, where: str, types: frozenset[str]) -> Iterator[str]:
        """Whether the GPUs are those that memory and speed were planned for."""
        there, planned = {_known(name) for name in types}, self.cluster.gpu
        if self.step.work.of == "gpu_train" and planned and there and there.isdisjoint({planned, None}):
            yield f"cluster.gpu={planned}: partition {where} has {', '.join(sorted(types))}: set it to what is there"


@dataclass(frozen=True)
class _OnANode:
    """An amount that a job asks for on each node, the key that sets it, and how much ``nodes`` have."""

    key: str
    count: float
    unit: str
    has: Callable[[Nodes], float]

    def lower(self, most: int, ranks: int) -> str:
        """The fix where a node has only ``most``."""
        fits = most if self.key == "gpus_per_node" else most // ranks
        if fits:
            return f"set it to {fits}"
        return "use another partition" + (", or fewer ranks on a node" if most and ranks > 1 else "")


def _known(name: str) -> str | None:
    """The GPU that a site's type such as ``nvidia_h100_80gb_hbm3`` is; ``gh200`` is no ``h200``."""
    return max((gpu for gpu in get_args(Gpu) if gpu in name.lower()), key=len, default=None)
