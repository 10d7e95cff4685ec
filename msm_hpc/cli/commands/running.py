"""The commands that run something: ``run``, ``rehearse``, ``stage``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated

import typer

from msm_hpc.base.errors import UserError
from msm_hpc.base.text import few
from msm_hpc.campaign import stand_in_judge
from msm_hpc.campaign.accounts import accounts
from msm_hpc.campaign.array_requests import SubmissionPlan
from msm_hpc.campaign.asking import askings, sampling_minutes
from msm_hpc.campaign.local_run import run_local
from msm_hpc.campaign.lost_nodes import report
from msm_hpc.campaign.needs import forecast_minutes, trainings
from msm_hpc.campaign.preflight import built
from msm_hpc.campaign.preflight.budget import BudgetCheck, check_budget
from msm_hpc.campaign.preflight.checks import refuse
from msm_hpc.campaign.preflight.disk import disk_problem, still_written
from msm_hpc.campaign.preflight.written import written_problems
from msm_hpc.campaign.rehearsal import CANNOT_SHOW, MOST_RANKS, each_layout_once, layouts_in_words, rehearse_all
from msm_hpc.campaign.runner import run_step
from msm_hpc.campaign.session import Session
from msm_hpc.campaign.settling import settled
from msm_hpc.campaign.slurm_run import left_alone, plan_submission, submit
from msm_hpc.campaign.splitting import over_free_workers
from msm_hpc.campaign.views.ends import Ended, last_ends
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.campaign.views.retries import retried
from msm_hpc.cli.arguments import Arguments, ConfigDir, StepArguments, sort_arguments
from msm_hpc.cli.display import Display
from msm_hpc.cli.views.failures import print_failures
from msm_hpc.cli.views.notes import print_bad_nodes, print_notes
from msm_hpc.cli.views.plan import array_table
from msm_hpc.cli.views.rehearsal import cuts_table
from msm_hpc.cli.views.report import print_report
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import File, Step
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.launch.local import start_local
from msm_hpc.launch.local_processes import hangup_interrupts
from msm_hpc.store.snapshots import snapshot_of
from msm_hpc.store.store import Store


def run(arguments: Arguments = None, config_dir: ConfigDir = None) -> int:
    """Run a campaign: what is done is kept, what failed is retried."""
    session, problems = sort_arguments(arguments).session(config_dir, named=True).examined()
    looking = session.asking()
    budget = _budget(looking)
    refuse([*problems, *filter(None, [_disk_problem(looking), budget.problem])])
    if budget.note:
        session.say(f"Note: {budget.note}")
    print_notes(session)
    if launcher_of(session.config.cluster).queues:
        if note := built.check_built(looking.graph.needed(looking.store.done), looking.store):
            session.say(f"Note: {note}")
        return _submit(session, looking)
    session.remember()
    return _run_here(session)


def rehearse(
    arguments: Arguments = None,
    max_ranks: Annotated[int, typer.Option(metavar="N", help="Processes of one training.")] = MOST_RANKS,
    config_dir: ConfigDir = None,
) -> int:
    """Run all of it here, on a shrunken model with its true layouts."""
    session = sort_arguments(arguments).session(config_dir, named=True)
    configs = session.settled().configs
    refuse(_of_specs(session))
    with stand_in_judge.judge() as judge:
        rehearsals = rehearse_all(configs, judge, max_ranks)
        small = replace(session, instead=tuple(each.config for each in rehearsals)).ready()
        small.remember()
        code = _run_here(small.making(each_layout_once(small.graph)))
    for each in rehearsals:
        cuts_table(each.cuts).print(session.console)
        session.say(*layouts_in_words(each.config))
    where = f"{small.config.campaign.name} root={small.config.root}"
    session.say(
        f"{'The rehearsal failed.' if code else 'Every step of the campaign went through.'} {CANNOT_SHOW}",
        f"It lies apart from real runs: ask with `msm status {where}`, `msm report {where}`, `msm trace CELL {where}`.",
    )
    return code


def _of_specs(session: Session) -> Iterator[str]:
    """What is wrong with the specs that the campaign reads; its rehearsal reads none."""
    read = (step.inputs.get("spec") for step in session.graph.steps)
    paths = {file.path for file in read if isinstance(file, File)}
    yield from (problem for path, problem in session.external.problems.items() if path in paths)
    yield from written_problems(session.graph.steps)


def stage(arguments: StepArguments = None, config_dir: ConfigDir = None) -> int:
    """Run one step in this shell."""
    given = sort_arguments(arguments, "step")
    session = given.session(config_dir, named=True).ready()
    step, store = session.graph.find(str(given.step)), session.store
    store.register((step,))
    if step.ranks == 1:
        run_step(str(store.root), step.id)
    else:
        start_local(store.jobs, step.ranks, run_step, str(store.root), step.id).wait()
    if not store.of(step).done:
        _print_failures(session, [step])
        return 1
    session.say(f"{step.id}: {store.of(step).out}")
    return 0


def _disk_problem(session: Session) -> str | None:
    try:
        written = still_written(session.graph, session.store, session.config.cluster)
    except UserError as error:  # of a model, as preflight says too
        return str(error)
    return disk_problem(written, session.store.root)


def _budget(session: Session) -> BudgetCheck:
    """The budget, if there is one, against what is spent and left."""
    cluster = session.config.cluster
    if cluster.budget_gpu_hours is None:
        return BudgetCheck()
    return check_budget(session.store, cluster, accounts(session).left)


def _run_here(session: Session) -> int:
    graph, store, console = session.graph, session.store, session.console
    left = len(graph.needed(store.done))
    if not left:
        console.print(_nothing_to_do(graph, store))
        return print_report(session)
    title = session.config.campaign.title
    session.say(f"{title}: {left} of {len(graph.steps)} steps to run in {store.root}")
    session.say(*retried(_last_ends(session)))
    began = time.monotonic()
    with hangup_interrupts(), Display(store, console) as display:
        state = run_local(graph, store, session.config.cluster, display.show)
    failed, made = [state.steps[identity] for identity in state.failed], len(state.made)
    session.say(
        f"{made} step{'' if made == 1 else 's'} made in {time.monotonic() - began:.0f} s of wall time; of "
        f"{len(graph.steps)} steps {len(state.done)} are done, {len(failed)} failed, "
        f"{len(state.blocked)} blocked by those"
    )
    _print_failures(session, failed)
    return print_report(session) or (1 if failed else 0)


def _nothing_to_do(graph: Graph, store: Store) -> str:
    gone = sum(not store.done(step) for step in graph.steps)
    if not gone:
        return f"Nothing to do: all {len(graph.steps)} steps are done."
    return (
        f"Nothing to do: all results are there. Of {len(graph.steps)} steps {gone} are not, which nothing needs now; "
        "`msm status` counts them."
    )


def _print_failures(session: Session, steps: Sequence[Step]) -> None:
    jobs = holders(steps, session.store)
    print_failures(session.console, last_ends(steps, session.store, jobs), session.store.root)


def _last_ends(session: Session) -> list[Ended]:
    """How the last tries ended that a run is about to repeat; nodes that these lost are reported, and left out."""
    graph, store = session.graph, session.store
    needed = graph.needed(store.done)
    jobs = holders(needed, store)
    ends = settled(last_ends(needed, store, jobs), jobs)
    for end in ends:
        report(store.root, end.nodes, end.evidence)
    return ends


def _submit(session: Session, looking: Session) -> int:
    """Submit what is wanted; ``looking`` is the session as it asked before."""
    config = session.config
    graph, store, cluster = looking.graph, looking.store, config.cluster
    forecasts = forecast_minutes(trainings(graph, store, cluster, session.packed))
    forecasts |= sampling_minutes(askings(graph, store, cluster))
    ends: list[Ended] = []

    def plan() -> SubmissionPlan:
        split = over_free_workers(session)
        now = split.asking()
        ends[:] = _last_ends(now)
        found = plan_submission(config.campaign.name, now.graph, now.store, config.cluster, forecasts)
        split.remember()  # once Slurm has answered, and before anything is submitted
        return found

    submission, ids = submit(plan, session.store, config.cluster, session.say)
    session.say(*left_alone(submission, session.store, config.cluster))
    if not submission.arrays and not submission.rest:
        done, running = submission.done, len(submission.running)
        session.console.print(f"Nothing to submit: {done} steps done, {running} running.")
        return 0
    array_table(submission, ids).print(session.console)
    session.say(*retried(ends, {step.identity for array in submission.arrays for step in array.steps}))
    print_bad_nodes(session)
    code = snapshot_of(session.store.root)
    if code.changed:
        session.say(f"Jobs run the code as it is now, which differs from its commit: {code.folder}/changes.diff")
    where = f"{config.campaign.name} root={config.root}"
    session.say(
        f"Submitted; nothing of ours stays running. `msm status {where}` shows where it stands, `msm report {where}` "
        "the results so far."
    )
    if rest := submission.rest:
        session.say(
            f"Slurm takes no more jobs of yours now: job {rest.job} waits until one of {few(rest.ahead)} has ended, "
            f"and submits the {rest.steps} steps that are left."
            + (f" To make room for it, job {rest.stopped} was stopped, which had just begun." if rest.stopped else "")
        )
    return 0
