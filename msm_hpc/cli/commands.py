"""What each command of ``msm`` does, given a campaign and its own arguments; each returns the exit code."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.markup import escape

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.local_run import run_local
from msm_hpc.campaign.needs import check_disk, trainings
from msm_hpc.campaign.preflight.own_data import check_own_data
from msm_hpc.campaign.probing import probe as run_probe
from msm_hpc.campaign.rehearsal import CANNOT_SHOW, told_layouts
from msm_hpc.campaign.rehearsal import rehearse as plan_rehearsal
from msm_hpc.campaign.runner import run_step
from msm_hpc.campaign.session import Session
from msm_hpc.campaign.slurm_run import plan_submission, scripts, submit_all
from msm_hpc.campaign.starting_model import recipe_note, what_is_missing
from msm_hpc.campaign.views.status import nothing_here, statuses
from msm_hpc.campaign.views.why import grouped, why
from msm_hpc.cli import show
from msm_hpc.cli.display import Display
from msm_hpc.cli.doctor import examine
from msm_hpc.launch.local import hangup_interrupts, start_local
from msm_hpc.planner.probe import TABLE, read_table


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Run here with progress, or submit to Slurm and return."""
    check_own_data(session.config)
    _check_disk(session)
    if note := recipe_note(session.config):
        session.tell(f"Note: {note}")
    session.tell(*session.settled.choices)
    if session.config.cluster.kind == "slurm":
        return _submit(session)
    return _run_here(session)


def _tell_needs(session: Session) -> None:
    """Print what each training needs, where the model's shape is known."""
    if session.model is None:
        return
    found = trainings(session.graph, session.store, session.model, session.config.cluster)
    session.console.print(show.needs_table(found))
    try:
        _check_disk(session)
    except UserError as error:
        session.tell(f"Note: {error}")


def _check_disk(session: Session) -> None:
    """Refuse to start where the checkpoints would not find room, if the model's shape is known."""
    if session.model is not None:
        check_disk(session.graph, session.store, session.model, session.config.cluster)


def _run_here(session: Session) -> int:
    graph, store, console = session.graph, session.store, session.console
    left = sum(not store.of(step).done for step in graph.steps)
    if not left:
        console.print(f"Nothing to do: all {len(graph.steps)} steps are done.")
        return report(session)
    console.print(
        f"{escape(session.config.campaign.title)}: {left} of {len(graph.steps)} steps to make in {store.root}"
    )
    began = time.monotonic()
    with hangup_interrupts(), Display(store, console) as display:
        state = run_local(graph, store, session.config.cluster.slots, display.show)
    failed = [state.steps[identity] for identity in state.failed]
    console.print(
        f"{left - len(failed) - len(state.blocked)} steps made in {time.monotonic() - began:.0f} s, "
        f"{len(graph.steps) - left} were done before, {len(failed)} failed, {len(state.blocked)} blocked by those"
    )
    show.print_failures(console, failed, store)
    return report(session) or (1 if failed else 0)


def rehearse(session: Session, arguments: argparse.Namespace) -> int:
    """Run the whole graph here on a shrunken model, then say what was cut."""
    check_own_data(session.config)
    rehearsal = plan_rehearsal(session.config, arguments.max_ranks)
    began = time.monotonic()
    code = _run_here(replace(session, instead=rehearsal.config))
    session.console.print(show.cuts_table(rehearsal.cuts))
    session.tell(*told_layouts(rehearsal.config))
    took = f"{time.monotonic() - began:.0f} s"
    verdict = f"The rehearsal failed after {took}." if code else f"Every step of the campaign went through, in {took}."
    session.tell(f"{verdict} {CANNOT_SHOW}")
    return code


def _submit(session: Session) -> int:
    submission = plan_submission(session.graph, session.store, session.config.cluster)
    done, running = len(submission.done), len(submission.running)
    if not submission.arrays:
        session.console.print(f"Nothing to submit: {done} steps done, {running} being made.")
        return 0
    submitted = submit_all(submission, session.store, session.config.cluster)
    ids = [jobs[0].id.partition("_")[0] for jobs in submitted]
    session.console.print(show.array_table(submission, ids))
    session.console.print(
        "Submitted; nothing of ours stays running. With the same overrides, `msm status` shows where it stands "
        "and `msm report` the results so far."
    )
    return 0


def plan(session: Session, arguments: argparse.Namespace) -> int:
    """Show what trainings need and for Slurm the arrays; on request every step, and the scripts."""
    check_own_data(session.config)
    if arguments.steps:
        session.console.print(show.graph_table(session.graph, session.store))
    else:
        session.tell(show.counted(session.graph, session.store))
    session.tell(*session.settled.choices)
    _tell_needs(session)
    for note in (recipe_note(session.config), what_is_missing(session.config.model)):
        session.tell(*([f"Note: {note}"] if note else []))
    if session.config.cluster.kind == "local":
        return 0
    cluster = session.config.cluster
    submission = plan_submission(session.graph, session.store, cluster)
    session.console.print(show.array_table(submission))
    if not arguments.scripts:
        return 0
    for array, script in zip(submission.arrays, scripts(submission, session.store, cluster), strict=True):
        session.console.rule(f"sbatch script of {array.name}", align="left")
        session.tell(script)
    return 0


def probe(session: Session, arguments: argparse.Namespace) -> int:
    """Measure the best few layouts of a training, here or in a Slurm job."""
    folder, job = run_probe(session.composed, arguments.step)
    if job:
        session.tell(
            f"Job {job} measures them, with its log in {session.store.jobs / job}_0_log.err; layout=auto and forecasts "
            f"go by the table from then on: {folder / TABLE}"
        )
        return 0
    for (layout, rows), seconds in read_table(folder).items():
        session.tell(f"{seconds:.3g} s per optimizer step: {layout} x {rows} row(s)")
    session.tell(f"in {folder}")
    return 0


def status(session: Session, arguments: argparse.Namespace) -> int:
    """Show where every stage stands, and what failed."""
    _tell_nothing_here(session)
    found = statuses(session.graph, session.store)
    session.console.print(show.status_table(found))
    session.tell(f"in {session.store.root}")
    failed = [status.step for status in found if status.state in ("failed", "lost")]
    show.print_failures(session.console, failed, session.store)
    return 0


def _tell_nothing_here(session: Session) -> None:
    if said := nothing_here(session.graph, session.store):
        session.tell(said)


def logs(session: Session, arguments: argparse.Namespace) -> int:
    """Print the log of a step's last attempt."""
    step = session.graph.find(arguments.step)
    logs = [attempt.log for attempt in session.store.of(step).attempts() if Path(attempt.log).is_file()]
    if not logs:
        raise UserError(f"{step.name} has no log: no job of `msm run` has tried it yet")
    sys.stdout.write(Path(logs[-1]).read_text(encoding="utf-8", errors="replace"))
    return 0


def why_step(session: Session, arguments: argparse.Namespace) -> int:
    """Say why a step, or each step that is not done, will run."""
    graph, store = session.graph, session.store
    if arguments.step:
        step = graph.find(arguments.step)
        groups = {tuple(found): [step]} if (found := why(step, graph, store)) else {}
    else:
        groups = grouped(graph, store)
    for reasons, alike in groups.items():
        session.console.print(f"[bold]{show.names_of(alike)}[/]", highlight=False)
        for reason in reasons:
            session.tell(f"  {reason}")
    if not groups:
        session.console.print("Nothing will run: done.")
    return 0


def report(session: Session, arguments: argparse.Namespace | None = None) -> int:
    """Print the results table and the path of the HTML report; what is missing is shown as missing."""
    from msm_hpc.report.results import load_results
    from msm_hpc.report.stage import run as render
    from msm_hpc.report.table import render_table

    _tell_nothing_here(session)
    step, store = session.graph.report, session.store
    out = store.of(step).out
    if not store.of(step).done:
        out = store.unfinished(step.name)
        made = {role: store.folder(role).out for role in step.inputs if store.folder(role).done}
        render(step.config, made, out)
    session.console.print(render_table(load_results(out)))
    session.tell(f"Report: {out / 'report.html'}")
    return 0


def stage(session: Session, arguments: argparse.Namespace) -> int:
    """Make one step in this shell."""
    step = session.graph.find(arguments.step)
    store = session.store
    store.register((step,))
    if step.ranks == 1:
        run_step(str(store.root), step.id)
    else:
        start_local(store.jobs, step.ranks, run_step, str(store.root), step.id).wait()
    if not store.of(step).done:
        show.print_failures(session.console, [step], store)
        return 1
    session.tell(f"{step.id}: {store.of(step).out}")
    return 0


def doctor(session: Session, arguments: argparse.Namespace) -> int:
    """Say what this machine can and cannot do, and the fix."""
    findings = examine()
    for finding in findings:
        colour = {"ok": "green", "note": "yellow", "bad": "red"}[finding.level]
        session.console.print(f"[{colour}]{finding.level:>4}[/] {finding.what}", highlight=False)
        if finding.fix:
            session.tell(f"     {finding.fix}")
    return int(any(finding.level == "bad" for finding in findings))
