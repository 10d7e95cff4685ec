from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from msm_hpc.base.errors import UserError
from msm_hpc.conversion.checkpoint import CheckpointReader, TensorPiece, write_checkpoint
from msm_hpc.conversion.workspace import Workspace

LAYERS = torch.arange(48.0, dtype=torch.bfloat16).view(2, 4, 6)


def write(folder: Path, rows: int, columns: int) -> CheckpointReader:
    """:data:`LAYERS` in pieces of ``rows`` and ``columns`` of a layer, as tensor-parallel ranks save it."""
    corners = [(layer, row, column) for layer in (0, 1) for row in range(0, 4, rows) for column in range(0, 6, columns)]
    pieces = []
    for layer, row, column in corners:
        part = LAYERS[layer, row : row + rows, column : column + columns].contiguous()
        pieces.append(TensorPiece("key", (2, 4, 6), (layer, row, column), (1, rows, columns), part.dtype, part.clone))
    write_checkpoint(folder, pieces)
    return CheckpointReader(folder)


@pytest.mark.parametrize(("rows", "columns"), [(4, 6), (2, 6), (4, 3), (2, 2)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_pieces_of_any_cut_are_put_together(tmp_path: Path, rows: int, columns: int, dtype: torch.dtype) -> None:
    checkpoint = write(tmp_path, rows, columns)
    assert checkpoint.shapes == {"key": (2, 4, 6)}
    whole = checkpoint.read("key", dtype)
    assert whole.dtype == dtype and torch.equal(whole, LAYERS.to(dtype))
    layers = [checkpoint.read("key", dtype, layer) for layer in (0, 1)]
    assert torch.equal(torch.stack(layers), whole), "a later read does not overwrite an earlier one"


def test_values_overwrite_what_was_there(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, 4, 3)
    tensor = torch.full((4, 6), torch.nan)
    checkpoint.read_into(tensor, "key", 1)
    assert torch.equal(tensor, LAYERS[1].float())


@pytest.mark.parametrize("gpu", [False, True])
def test_pieces_may_share_a_workspace(tmp_path: Path, gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch writes in another order where it finds a GPU, here a pretended one."""
    workspace = Workspace()

    def filled(layer: int) -> torch.Tensor:
        return workspace.tensor((4, 6), torch.bfloat16).copy_(LAYERS[layer])

    pieces = [TensorPiece("key", (2, 4, 6), (n, 0, 0), (1, 4, 6), torch.bfloat16, partial(filled, n)) for n in (0, 1)]
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: gpu)
        write_checkpoint(tmp_path, pieces)
    assert torch.equal(CheckpointReader(tmp_path).read("key", torch.bfloat16), LAYERS)


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    checkpoint = write(tmp_path, 4, 6)
    [data] = tmp_path.glob("*.distcp")
    data.write_bytes(data.read_bytes()[:kept])
    with pytest.raises(UserError, match="key cannot be read; the checkpoint is damaged"):
        checkpoint.read("key", torch.bfloat16)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, 2, 6)
    [data] = tmp_path.glob("*.distcp")
    data.unlink()
    with pytest.raises(UserError, match=r"key cannot be read; the checkpoint is damaged: .*No such file"):
        checkpoint.read("key", torch.bfloat16, 1)
