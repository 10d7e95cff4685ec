"""Stages small enough to see what the runner does with them; tests put them in the place of real ones."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from msm_hpc.config.stages import ExportConfig

SECONDS_TO_COME = 60.0


def carry_over(earlier: Sequence[Path], out: Path) -> None:
    for folder in earlier:
        shutil.copytree(folder, out, dirs_exist_ok=True)


def write(config: ExportConfig, inputs: Mapping[str, Path], out: Path) -> None:
    (out / "result.txt").write_text("whole")


def together(config: ExportConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """Rank 0 writes the result once rank 1 has come."""
    came, deadline = out / "rank 1 came", time.monotonic() + SECONDS_TO_COME
    if os.environ["RANK"] == "1":
        came.touch()
        return
    while not came.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    (out / "result.txt").write_text(f"whole, {came.name}" if came.exists() else "rank 1 never came")


def fail_on_rank_1(config: ExportConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """Rank 0 waits for rank 1 and never notices that it has failed."""
    if os.environ["RANK"] == "1":
        raise RuntimeError("the stage broke on rank 1")
    signal.pause()


def signal_the_job(config: ExportConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """A signal comes that reaches no step: this one has ended, and the next one has not begun."""
    together(config, inputs, out)
    os.kill(os.getppid(), signal.SIGUSR2)


def fail(config: ExportConfig, inputs: Mapping[str, Path], out: Path) -> None:
    (out / "half.txt").write_text("half")
    raise RuntimeError("the stage broke")


def edit_what_is_read(config: ExportConfig, inputs: Mapping[str, Path], out: Path) -> None:
    (out / "result.txt").write_text(inputs["corpus"].read_text())
    inputs["corpus"].write_text("edited")


def fill_the_disk(config: ExportConfig, inputs: Mapping[str, Path], out: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(out / "shard.bin"))


def die(config: ExportConfig, inputs: Mapping[str, Path], out: Path) -> None:
    (out / "half.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)


def continue_or_die(config: ExportConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """Dies on its first run, and on the second finds what the first wrote, if that was kept."""
    half = out / "half.txt"
    if half.exists():
        (out / "result.txt").write_text(half.read_text() + " and whole")
        return
    half.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)


def serve(config: ExportConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """Asks a fake server of which process it is."""
    from msm_hpc.config.serving import Serving
    from msm_hpc.serving import handshake, served

    python, model = os.environ["FAKE_SERVER"].split(":")
    with served(Serving(server="vllm", python=python), Path(model)) as endpoint:
        state = handshake.ask(f"{endpoint.base_url.removesuffix('/v1')}/fake")
        (out / "process").write_text(str(state["pid"]))
