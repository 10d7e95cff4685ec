"""Are the token ids the same? Ours, the reference's and the peers', compared byte by byte after the last run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import OURS, Case

LLAMA_BOS = 128_000


def compare(cases: Sequence[Case]) -> list[str]:
    """A line for each peer of each group: its ids, and its masks where it makes them, against ours."""
    lines = []
    for group, members in groupby(cases, key=lambda case: case.group):
        ours, *peers = members
        assert ours.name == OURS
        for peer in peers:
            lines.append(f"{group}: {peer.name}: {_verdict(_ids(ours.out), _ids(peer.out))}")
            if len(masks := _masks(peer.out)):
                lines.append(f"{group}: {peer.name}: masks: {_verdict(_masks(ours.out), masks)}")
    return lines


def _verdict(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> str:
    if np.array_equal(ours, theirs):
        return f"equal, {len(ours)} tokens"
    without_bos = theirs[theirs != LLAMA_BOS]
    if np.array_equal(ours, without_bos):
        return f"equal, {len(ours)} tokens, but for a BOS in front of each of {len(theirs) - len(ours)} documents"
    if len(ours) != len(theirs):
        return f"DIFFERENT: {len(theirs)} tokens, not {len(ours)}"
    return f"DIFFERENT: {np.count_nonzero(ours != theirs)} of {len(ours)} tokens"


def _ids(folder: Path) -> NDArray[np.int32]:
    return np.concatenate([np.empty(0, np.int32), *(np.fromfile(path, np.int32) for path in _files(folder, "bin"))])


def _masks(folder: Path) -> NDArray[np.uint8]:
    return np.concatenate([np.empty(0, np.uint8), *(np.fromfile(path, np.uint8) for path in _files(folder, "mask"))])


def _files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.rglob(f"*.{suffix}"))
