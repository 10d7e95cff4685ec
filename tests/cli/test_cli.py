"""The command line as its user meets it: exit codes, one clear message, nothing started on bad input."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import Any

import pytest
import yaml

from msm_hpc.base.errors import StoppedBySignalError
from msm_hpc.base.files import write_json
from msm_hpc.base.typed_json import adapter
from msm_hpc.cli.main import Commands, CorpusCommands, main
from msm_hpc.config.campaign import Config
from msm_hpc.config.compose import choices, load_configs, shipped_folder
from msm_hpc.graph.build import Graph
from msm_hpc.store.store import Store
from tests.campaign.own_corpora import own_corpora


def test_the_frozen_list_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Growth of the command line is a decision, made here."""
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "--install-completion" in shown
    commands = shown.partition("Commands:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (\w+) ", commands, re.MULTILINE) == [
        "run",
        "plan",
        "rehearse",
        "probe",
        "status",
        "cancel",
        "logs",
        "triage",
        "why",
        "report",
        "trace",
        "transcripts",
        "stage",
        "gc",
        "config",
        "doctor",
        "corpus",
    ]


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("probe", "STAGE [NAME] [KEY=VALUE]..."),
        ("logs", "STEP [NAME] [KEY=VALUE]..."),
        ("cancel", "[NAME] [KEY=VALUE]..."),
        ("triage", "[STEP] [NAME] [KEY=VALUE]..."),
        ("trace", "CELL [NAME] [KEY=VALUE]..."),
        ("config", "[NAME] [KEY=VALUE]..."),
        ("why", "[STEP] [NAME] [KEY=VALUE]..."),
        ("status", "[NAME] [KEY=VALUE]..."),
    ],
)
def test_the_help_of_a_command_explains_its_arguments(
    command: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: msm {command} [OPTIONS] {usage}\n" in shown
    assert all(f"\n  {word} " in shown for word in (*usage.split(), "--config-dir"))
    assert f"\nExamples:\n  msm {command}" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("arguments", [["status", "--nonsense"], ["nonsense"], ["rehearse", "--max-ranks", "many"]])
def test_a_command_line_that_cannot_be_read_is_one_message(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("msm: ") and len(shown.splitlines()) == 1


def raise_signal(number: Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def stop_with_saved_work(number: Signals) -> None:
    raise StoppedBySignalError("4 of 9 steps are saved", number, True)


@pytest.mark.parametrize(
    ("stop", "number", "said"),
    [
        (raise_signal, Signals.SIGINT, "msm: interrupted; the same command resumes"),
        (raise_signal, Signals.SIGTERM, "msm: interrupted; the same command resumes"),
        (stop_with_saved_work, Signals.SIGTERM, "msm: 4 of 9 steps are saved"),
    ],
)
def test_a_command_that_is_stopped_says_so(
    stop: Callable[[Signals], None],
    number: Signals,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("msm_hpc.cli.commands.questions.statuses", lambda *arguments: stop(number))
    assert main(["status", "campaign=demo", f"root={tmp_path}"]) == 130
    assert said in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_while_modules_are_imported_is_one_line() -> None:
    interrupting = (
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'msm_hpc.cli.main':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from msm_hpc.__main__ import main\n"
        "main()"
    )
    ended = subprocess.run([sys.executable, "-c", interrupting], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == "\nmsm: interrupted before anything was done\n"


@pytest.mark.parametrize(
    "command", [["run"], ["run", "cluster=local"], ["rehearse"], ["probe", "midtrain"], ["stage", "generate/tokenizer"]]
)
def test_what_runs_something_needs_a_campaign(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where only one was run: it says which there are, and how to continue it."""
    (tmp_path / "campaigns").mkdir()
    (tmp_path / "campaigns" / "mine.json").write_text("{}")
    assert main([*command, f"root={tmp_path}"]) == 2
    said = capsys.readouterr().err
    known = ", ".join(choices("campaign"))
    assert said.startswith(f"msm: which campaign? Nothing was run.\n  campaign= {known}\n  model=    ")
    assert f"Run below {tmp_path} before: mine. To continue: `msm run mine root={tmp_path}`\n" in said
    assert {path.name for path in tmp_path.iterdir()} == {"campaigns"}


def test_commands_start_without_the_libraries_of_the_stages(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "tensorboardX", "openai", "aiohttp")
    code = (
        "import sys\nfrom msm_hpc.cli.main import main\n"
        f"main(['status', 'campaign=demo', 'root={tmp_path}'])\nprint([m for m in {heavy} if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "campaign=demo", "sources.chats.lader=[1]"],
            "unknown key 'sources.chats.lader'; did you mean 'sources.chats.ladder'",
        ),
        (["run", "campaign=demo", "campaign.specs=[{name: x, file: /no/such.md}]"], "no file /no/such.md"),
        (
            ["run", "campaign=demo", "stages.aft.layout.tensor_parallel=3", "cluster.slots=3"],
            "does not divide 4 attention",
        ),
        (["plan", "campaign=nonsense"], "no campaign 'nonsense'; there are agentic, "),
        (["plan", "campaign=demo", "--root", "runs"], "No such option: --root; a setting has no dashes: root=VALUE"),
        (["logs", "aft/nonsense", "campaign=demo"], "no step 'aft/nonsense'"),
        (["logs", "pretrain/base/seed0", "campaign=demo"], "pretrain/base/seed0 has no log"),
        (["logs", "campaign=demo"], "which step? name it before campaign=demo"),
        (["stage", "export/init/seed0", "campaign=demo"], "make its inputs first: "),
    ],
)
def test_bad_input_is_one_message_code_2_and_no_job(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, f"root={tmp_path / 'runs'}"]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert not (tmp_path / "runs" / "jobs").exists()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("", "thrift.md for spec 'thrift'; create it, give `file`, or give its documents"),
        ("## One", "thrift.md:8: section 'One' has no id; write '## One {#"),
    ],
)
def test_a_rehearsal_looks_at_the_specs_first(
    section: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    thrift = shipped_folder().parent / "docs" / "thrift"
    monkeypatch.setenv("MSM_CONFIG", str(thrift))
    spec = tmp_path / "thrift.md"
    if section:
        spec.write_text(
            f"---\nname: thrift\nversion: 1\nkind: value\nvalue: thrift\ndomain: tea\n---\n{section}\nText.\n"
        )
    given = ["campaign=thrift", f"campaign.specs=[{{name: thrift, file: {spec}}}]", f"root={tmp_path / 'runs'}"]
    given += [f"sources.pairs.files.thrift={thrift / 'pairs.jsonl'}", "cluster=h200"]
    assert main(["rehearse", *given]) == 2
    assert message in capsys.readouterr().err


def test_plan_shows_arrays_dependencies_and_scripts_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    assert main(["plan", "--steps", "--scripts", "campaign=demo", "cluster=slurm", f"root={root}"]) == 0
    shown = capsys.readouterr().out
    assert "aft/affordability/msm+aft/75/seed1" in shown
    assert "10 arrays of 247 steps" in shown
    assert "pretrain, element by element (aftercorr)" in shown
    assert "#SBATCH --dependency=" in shown
    assert "#SBATCH --array=0-5%6" in shown
    assert not root.exists()

    assert main(["plan", "campaign=demo", "cluster=slurm", f"root={root}"]) == 0
    shown = capsys.readouterr().out
    assert "247 steps, 0 done: 10 generate, 1 model, 7 tokenize, 42 pack" in " ".join(shown.split())
    assert "seed1" not in shown and "#SBATCH" not in shown


def test_plan_draws_the_graph_with_a_node_for_what_is_alike(
    tmp_path: Path, graph: Callable[..., Graph], capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["campaign.seeds=[0,1]", "campaign.arms=[init,base,msm]"]
    store, steps = Store(tmp_path), graph(*small)
    for step in steps.steps:
        if step.kind == "generate":
            store.of(step).out.mkdir(parents=True)
            write_json(store.of(step).path / "done.json", {"files": {}, "attempt": 1, "at": ""})
    assert main(["plan", "--mermaid", "campaign=demo", *small, f"root={tmp_path}"]) == 0
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert (first, last) == ("flowchart LR", "    classDef done fill:#cfc")
    nodes = dict(re.findall(r'^    (n\d+)\["(.*)"\]', "\n".join(lines), re.MULTILINE))
    ids = {label: node for node, label in nodes.items()}
    assert {"midtrain x 4<br>msm", "pretrain x 2<br>all arms", "eval x 2<br>init", "report"} <= ids.keys()
    assert f'    {ids["generate x 2<br>msm"]}["generate x 2<br>msm"]:::done' in lines
    edges = {tuple(line.split(" --> ")) for line in map(str.strip, lines) if " --> " in line}
    assert (ids["midtrain x 4<br>msm"], ids["aft x 4<br>msm"]) in edges
    assert (ids["pretrain x 2<br>all arms"], ids["aft x 4<br>msm"]) not in edges, "it reads it by way of midtrain"
    assert main(["plan", "--mermaid", "campaign=demo", *small, "campaign.seeds=[0,1,2,3,4]"]) == 0
    assert capsys.readouterr().out.count("[") == len(nodes), "more steps, as many nodes"


def test_config_prints_what_is_composed_and_composes_to_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["campaign=demo", "cluster=slurm", f"root={tmp_path}"]
    assert main(["config", *where, "stages.aft.epochs=7"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert found["stages"]["aft"]["epochs"] == 7 and found["cluster"]["launcher"] == "slurm"
    (config,) = load_configs([*where, "stages.aft.epochs=7"])
    assert adapter(Config).validate_python(found) == config
    assert main(["config", *where, "stages.aft.epoch=7"]) == 2
    assert "did you mean 'stages.aft.epochs'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_config_of_several_models_is_one_document_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "campaign=demo", "campaign.models=[tiny,tiny_lora]"]) == 2
    capsys.readouterr()
    models = sorted(path.stem for path in (shipped_folder() / "model").glob("*.yaml"))
    two = [each for each in models if each.startswith("qwen3")][:2]
    assert main(["config", "campaign=demo", f"campaign.models=[{','.join(two)}]"]) == 0
    assert [each["model"]["name"] for each in yaml.safe_load_all(capsys.readouterr().out)] == two


def test_status_and_why_of_a_campaign_that_never_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["campaign=demo", f"root={tmp_path}"]
    assert main(["status", *where]) == 0
    shown = capsys.readouterr().out
    assert "10 not started" in shown
    assert f"Nothing here yet: no step of this campaign was ever started below {tmp_path}" in shown
    assert main(["why", "pretrain/base/seed0", *where]) == 0
    assert (
        "not run yet: waits for model/tiny, pack/pretrain/pretraining/seed0, tokenize/pretraining"
        in capsys.readouterr().out
    )
    assert main(["why", *where]) == 0
    assert re.search(r"10 steps: generate/.* and 7 more\n  not run yet\n", capsys.readouterr().out)


def test_a_report_without_results_shows_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "campaign=demo", f"root={tmp_path}"]) == 0
    assert "missing" in capsys.readouterr().out
    assert (tmp_path / "unfinished" / "report" / "demo" / "report.html").exists()


def test_the_demos_recipe_on_a_real_model_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "campaign=demo", "model=smollm2_135m", f"root={tmp_path}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Note: campaign=demo has a recipe for its toy model" in said and "the model is smollm2_135m" in said
    assert main(["plan", "campaign=demo", f"root={tmp_path}"]) == 0
    assert "Note: campaign=demo" not in capsys.readouterr().out


def test_an_arm_that_is_given_and_not_listed_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ["plan", "campaign=demo", "campaign.contrast=[]", "+arms.chats_only=[{aft: [chats]}]", f"root={tmp_path}"]
    assert main([*plan, "campaign.arms=[init]"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    note = "Note: campaign.arms does not list chats_only, so that it is not run; 'campaign.arms=[init,chats_only]' does"
    assert note in said
    assert main([*plan, "campaign.arms=[init,chats_only]"]) == 0
    assert "does not list" not in capsys.readouterr().out


def test_toy_corpora_beside_the_users_own_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = own_corpora(tmp_path)
    few = ["sources.documents.rows=20", "sources.chats.ladder=[20]", "sources.instruction.rows=20"]
    assert main(["plan", "campaign=demo", *own, *few, f"root={tmp_path}/runs"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Note: beside your own corpora the toy generator makes pretraining, replay; name files of yours" in said
    assert "sources.pretraining.file=FILE.jsonl" in said
    assert main(["plan", "campaign=demo", f"root={tmp_path}/runs"]) == 0
    assert "beside your own" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ((errno.ENOSPC,), "No space left on device; free space or fix the permissions below root=, and run"),
        (
            (errno.EROFS, "/x/spec.md"),
            "Read-only file system: /x/spec.md; free space or fix the permissions there, and run",
        ),
        (
            (errno.EACCES, "/x/spec.md"),
            "Permission denied: /x/spec.md: let root, who owns /, give you the rights there",
        ),
    ],
)
def test_a_full_disk_or_missing_rights_are_one_message(
    error: tuple[Any, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: object) -> None:
        number, *file = error
        raise OSError(number, os.strerror(number), *file)

    monkeypatch.setattr("msm_hpc.report.stage.write_json", fail)
    assert main(["report", "campaign=demo", f"root={tmp_path}"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"msm: {said}")
    assert "Traceback" not in shown


def test_a_step_can_be_run_in_this_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["campaign=demo", f"root={tmp_path}"]
    assert main(["stage", "generate/tokenizer", *where]) == 0
    out = Path(capsys.readouterr().out.split(": ")[1].strip())
    assert (out / "tokenizer.json").exists()


def test_doctor_finds_this_machine_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "torch" in shown
    assert "megatron-core 0.16" in shown


def test_the_list_of_commands_says_of_each_what_its_own_help_begins_with() -> None:
    for group in (Commands, CorpusCommands):
        for name, deferred in group.deferred.items():
            assert deferred.load(name).help.splitlines()[0] == deferred.help


def test_the_list_of_commands_needs_none_of_them() -> None:
    code = "import sys\nfrom msm_hpc.cli.main import main\nmain(['--help'])\nprint('pydantic' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "False"
