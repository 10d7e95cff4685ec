"""The commands that look ahead: ``plan`` by formula, ``probe`` by measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.needs import Training, forecast_minutes, trainings
from msm_hpc.campaign.preflight.disk import check_disk
from msm_hpc.campaign.probing import probe as run_probe
from msm_hpc.campaign.session import Session
from msm_hpc.campaign.slurm_run import left_alone, plan_submission, refusals, scripts
from msm_hpc.cli.arguments import Arguments, ConfigDir, StageArguments, sort_arguments
from msm_hpc.cli.views.needs import needs_table
from msm_hpc.cli.views.notes import print_notes
from msm_hpc.cli.views.plan import array_table, counted, graph_table
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.launch.slurm_commands import can_submit
from msm_hpc.planner.probe import TABLE, read_table


def plan(
    arguments: Arguments = None,
    steps: Annotated[bool, typer.Option("--steps", help="List every step, with its name and id.")] = False,
    show_scripts: Annotated[
        bool, typer.Option("--scripts", help="Print the sbatch script of every array as well.")
    ] = False,
    config_dir: ConfigDir = None,
) -> int:
    """Show what trainings need and the job arrays; submit nothing."""
    session = sort_arguments(arguments).session(config_dir)
    if steps:
        graph_table(session.graph, session.store).print(session.console)
        if not show_scripts:
            return 0
    session = session.ready()
    session.say(counted(session.graph, session.store))
    found = trainings(session.graph, session.store, session.config.cluster, session.packed)
    _print_needs(session, found)
    print_notes(session)
    if launcher_of(session.config.cluster).queues:
        _print_arrays(session, forecast_minutes(found), show_scripts)
    return 0


def _print_needs(session: Session, found: Sequence[Training]) -> None:
    """What each training needs, where the model's shape is known."""
    if found:
        needs_table(found).print(session.console)
    try:
        check_disk(session.graph, session.store, session.config.cluster)
    except UserError as error:
        session.say(f"Note: {error}")


def _print_arrays(session: Session, forecasts: Mapping[str, float], show_scripts: bool) -> None:
    cluster = session.config.cluster
    submission = plan_submission(session.config.campaign.name, session.graph, session.store, cluster, forecasts)
    array_table(submission).print(session.console)
    session.say(*left_alone(submission, session.store, cluster))
    if can_submit():
        session.say(*(f"Note: {problem}" for problem in refusals(submission, session.store, cluster)))
    if not show_scripts:
        return
    for array, script in zip(submission.arrays, scripts(submission, session.store, cluster), strict=True):
        session.say(f"\n──── sbatch script of {array.name}")
        session.console.print(script, markup=False, highlight=False, soft_wrap=True)  # to be copied: never wrapped


def probe(arguments: StageArguments = None, config_dir: ConfigDir = None) -> int:
    """Measure the best few layouts of a training."""
    given = sort_arguments(arguments, "stage")
    session = given.session(config_dir, named=True)
    if len(session.configs) > 1:
        names = ", ".join(config.model.name for config in session.configs)
        raise UserError(f"a probe measures one model, and this campaign has {names}: add model=NAME")
    folder, job = run_probe(session.config, str(given.step))
    if job:
        session.say(
            f"Job {job} measures them, with its log in {session.store.jobs / job}_0_log.err; layout=auto and forecasts "
            f"go by the table from then on: {folder / TABLE}"
        )
        return 0
    for (layout, rows), seconds in read_table(folder).items():
        session.say(f"{seconds:.3g} s per optimizer step: {layout} x {rows} row(s)")
    session.say(f"in {folder}")
    return 0
