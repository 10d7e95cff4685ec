"""The commands that look ahead: ``plan`` by formula, ``probe`` by measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
import yaml

from msm_hpc.base.errors import UserError
from msm_hpc.base.typed_json import adapter
from msm_hpc.campaign.accounts import accounts
from msm_hpc.campaign.asking import askings, sampling_minutes
from msm_hpc.campaign.needs import Training, forecast_minutes, trainings
from msm_hpc.campaign.outlook import Outlook
from msm_hpc.campaign.preflight.budget import check_budget
from msm_hpc.campaign.preflight.disk import disk_problem, still_written
from msm_hpc.campaign.probing import probe as run_probe
from msm_hpc.campaign.session import Session
from msm_hpc.campaign.slurm_run import left_alone, plan_submission, refusals, scripts
from msm_hpc.campaign.views.ledger import hour_unit
from msm_hpc.cli.arguments import Arguments, ConfigDir, StageArguments, sort_arguments
from msm_hpc.cli.views.judging import asking_lines, judged_line
from msm_hpc.cli.views.ledger import outlook_line
from msm_hpc.cli.views.mermaid import mermaid
from msm_hpc.cli.views.needs import needs_table
from msm_hpc.cli.views.notes import print_bad_nodes, print_notes
from msm_hpc.cli.views.plan import array_table, counted, graph_table
from msm_hpc.cli.views.preview import asked_line
from msm_hpc.config.campaign import Config
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.launch.slurm_commands import can_submit
from msm_hpc.planner.probe import TABLE, read_table


def plan(
    arguments: Arguments = None,
    steps: Annotated[bool, typer.Option("--steps", help="List every step, with its name and id.")] = False,
    show_scripts: Annotated[
        bool, typer.Option("--scripts", help="Print the sbatch script of every array as well.")
    ] = False,
    as_mermaid: Annotated[
        bool, typer.Option("--mermaid", help="Print the graph as Mermaid text instead, to be drawn.")
    ] = False,
    config_dir: ConfigDir = None,
) -> int:
    """Show what trainings need and the job arrays; submit nothing."""
    session = sort_arguments(arguments).session(config_dir)
    if as_mermaid:
        session.console.print(*mermaid(session.graph, session.store), sep="\n", markup=False, soft_wrap=True)
        return 0
    if steps:
        graph_table(session.graph, session.store).print(session.console)
        if not show_scripts:
            return 0
    session = session.ready(runs=False).asking()
    session.say(counted(session.graph, session.store))
    graph, store, cluster = session.graph, session.store, session.config.cluster
    found = trainings(graph, store, cluster, session.packed)
    asked = askings(graph, store, cluster)
    left, written = accounts(session, found, asked).left, still_written(graph, store, cluster)
    _print_needs(session, found, left, written)
    session.say(*filter(None, [asked_line(session), *asking_lines(asked, cluster), judged_line(session)]))
    print_notes(session)
    if launcher_of(cluster).queues:
        print_bad_nodes(session)
        _print_arrays(session, forecast_minutes(found) | sampling_minutes(asked), show_scripts)
    if left and left.steps:
        session.say(outlook_line(left, sum(written), cluster))
    return 0


def _print_needs(session: Session, found: Sequence[Training], left: Outlook | None, written: tuple[int, int]) -> None:
    """What each training needs, where the model's shape is known."""
    if found:
        needs_table(found, hour_unit(session.config.cluster.trains_on_gpus)).print(session.console)
    store, cluster = session.store, session.config.cluster
    budget = check_budget(store, cluster, left)
    noted = (disk_problem(written, store.root), budget.problem, budget.note)  # problems too, since nothing runs
    session.say(*(f"Note: {note}" for note in noted if note))


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


def config(arguments: Arguments = None, config_dir: ConfigDir = None) -> int:
    """Print the composed configuration as YAML."""
    session = sort_arguments(arguments).session(config_dir)
    for each in session.configs:
        values = adapter(Config).dump_python(each, mode="json")
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
        session.console.file.write(f"---\n{text}" if len(session.configs) > 1 else text)
    return 0


def probe(arguments: StageArguments = None, config_dir: ConfigDir = None) -> int:
    """Measure the best few layouts of a training."""
    given = sort_arguments(arguments, "stage")
    session = given.session(config_dir, named=True)
    if len(session.configs) > 1:
        names = ", ".join(config.model.name for config in session.configs)
        raise UserError(f"a probe measures one model, and this campaign has {names}: add model=NAME")
    folder, job = run_probe(session.config, session.graph, str(given.step))
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
