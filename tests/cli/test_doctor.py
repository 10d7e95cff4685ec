from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.cli.doctor import Finding, examine


def _transformer_engine(folder: Path, version: str | None, monkeypatch: pytest.MonkeyPatch) -> Finding:
    """What is said with ``transformer_engine`` of ``version`` in ``folder``; None leaves an empty folder."""
    (folder / "transformer_engine").mkdir()
    if version is not None:
        (folder / "transformer_engine" / "__init__.py").write_text("")
        facts = folder / f"transformer_engine-{version}.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: transformer_engine\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(folder))
    return next(finding for finding in examine() if "ransformer" in finding.what and "transformers" not in finding.what)


def test_a_version_of_transformer_engine_that_megatron_can_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _transformer_engine(tmp_path, "2.11.0", monkeypatch) == Finding("ok", "Transformer Engine 2.11.0")


@pytest.mark.parametrize("version", ["1.13.0", "2.12.0"])
def test_another_version_of_transformer_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    finding = _transformer_engine(tmp_path, version, monkeypatch)
    assert finding.level == "bad" and f"Transformer Engine {version} is installed" in finding.what
    assert "transformer-engine[pytorch]>=2.9,<2.12" in finding.fix


def test_a_folder_left_from_an_earlier_transformer_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = _transformer_engine(tmp_path, None, monkeypatch)
    assert finding.level == "bad" and "empty folder transformer_engine/" in finding.what
    assert str(tmp_path) in finding.fix
