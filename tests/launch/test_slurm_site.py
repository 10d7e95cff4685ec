"""What Slurm prints, as the site is read from it."""

from __future__ import annotations

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.launch import slurm_commands
from msm_hpc.launch.slurm_site import (
    Limits,
    Qos,
    minutes,
    parse_accounts,
    parse_limits,
    parse_partitions,
    parse_qos,
    read_limits,
    read_site,
)
from tests.commands import Commands
from tests.slurm_tools import why_no_cluster

SINFO = """\
small*|up|1-00:00:00|40|128|515000|(null)|icelake,ib
h100|up|2-00:00:00|16|192|2051961|gpu:nvidia_h100_80gb_hbm3:8(S:0-1),nvme:1|h100,ib
h100|up|2-00:00:00|2|192|1031000|gpu:nvidia_h100_80gb_hbm3:4(S:0-1)|h100
old|drain|infinite|0|n/a|n/a|(null)|(null)
mixed|down|30:00|8|64+|256000+|gpu:a100:2,gpu:l40s:2|(null)
"""


def test_partitions_and_the_shapes_of_their_nodes() -> None:
    partitions, default = parse_partitions(SINFO)
    assert default == "small"
    assert [each.state for each in partitions.values()] == ["up", "up", "drain", "down"]
    assert [each.minutes for each in partitions.values()] == [1440, 2880, None, 30]
    assert partitions["old"].nodes == ()
    large, few = partitions["h100"].nodes
    assert (large.count, large.cpus, large.memory, large.gpus) == (16, 192, 2051961, 8)
    assert (large.gpu_types, large.features) == ({"nvidia_h100_80gb_hbm3"}, {"h100", "ib"})
    assert (few.count, few.gpus) == (2, 4)
    (mixed,) = partitions["mixed"].nodes
    assert (mixed.cpus, mixed.memory, mixed.gpus, mixed.gpu_types) == (64, 256000, 4, {"a100", "l40s"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("infinite", None),
        ("", None),
        ("UNLIMITED", None),
        ("30:00", 30),
        ("12:30:00", 750),
        ("2-06:00:00", 3240),
        ("5", 5),
    ],
)
def test_times(text: str, expected: int | None) -> None:
    assert minutes(text) == expected


def test_accounting() -> None:
    assert parse_qos("normal||\nnight|02:00:00|5\n") == {"normal": Qos(None, None), "night": Qos(120, 5)}
    (account,) = parse_accounts("root|night,normal||1-00:00:00|7\n")
    assert (account.name, account.qos, account.default_qos) == ("root", {"night", "normal"}, "")
    assert account.limits == Qos(1440, 7)


def test_limits() -> None:
    said = {"MaxArraySize": "20001", "MaxJobCount": "500", "AccountingStorageEnforce": "associations,limits"}
    assert parse_limits(said) == Limits(20001, 500, frozenset({"associations", "limits"}))
    assert parse_limits({**said, "SchedulerParameters": "bf_interval=1,max_array_tasks=300"}).array_size == 300


def test_a_cluster_that_does_not_answer_has_slurms_limits_and_no_site(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_commands, "PAUSES", ())
    fails = "echo 'x: error: fetch_config' >&2; echo 'Unable to contact slurm controller' >&2; exit 1"
    commands(scontrol=fails, sinfo=fails)
    assert read_limits() == Limits()
    with pytest.raises(UserError, match=r"^sinfo failed: Unable to contact slurm controller; is the Slurm controller"):
        read_site()


def test_accounting_is_asked_only_where_it_enforces_something(commands: Commands) -> None:
    commands(sinfo=f"cat <<'X'\n{SINFO}\nX", sacctmgr="echo 'normal||'", scontrol="echo 'MaxArraySize = 11'")
    site = read_site()
    assert site is not None and (site.limits.array_size, site.qos, site.accounts) == (11, {}, ())
    slurm_commands.settings.cache_clear()
    calls = commands(scontrol="echo 'AccountingStorageEnforce = limits,qos'")
    site = read_site()
    assert site is not None and site.qos == {"normal": Qos(None, None)}
    assert calls.read_text().count("sacctmgr") == 2


@pytest.mark.slow
@pytest.mark.slurm
def test_a_real_cluster() -> None:
    if reason := why_no_cluster():
        pytest.skip(reason)
    site = read_site()
    assert site is not None and site.default == "main" and site.limits.array_size == 1001
    (nodes,) = site.partitions["main"].nodes
    assert nodes.count > 0 and nodes.cpus > 0 and nodes.memory > 0
    assert site.partitions["main"].state == "up" and "normal" in site.qos
    assert "root" in [account.name for account in site.accounts]  # beside those of other tests
