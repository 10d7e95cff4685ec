"""Stages small enough to see what the runner does with them; tests put them in the place of real ones."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from msm_hpc.config.stages import ExportConfig


def carry_over(earlier: Sequence[Path], out: Path) -> None:
    for folder in earlier:
        shutil.copytree(folder, out, dirs_exist_ok=True)


def write(config: ExportConfig, inputs: Mapping[str, Path], out: Path) -> None:
    (out / "result.txt").write_text("whole")


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
