"""What a model is served on, as the driver says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.serving.device import Device, device


@pytest.mark.parametrize(
    ("says", "given", "found"),
    [
        ("printf 'NVIDIA H200\\nNVIDIA H200\\n'", "0,1", Device("NVIDIA H200", 2)),
        ("printf 'NVIDIA H200\\nNVIDIA H200\\n'", "", Device("CPU")),
        ("exit 9", "0,1", Device("unknown")),
        ("true", "0,1", Device("CPU")),
    ],
)
def test_the_driver_is_asked(
    says: str, given: str, found: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert device() == found


def test_a_machine_without_a_driver_has_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device() == Device("CPU")
