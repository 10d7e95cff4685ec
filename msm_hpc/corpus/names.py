"""Pools that each text draws from by its own seed, so that no one name or point of view runs through a corpus.

Left to itself, a language model calls nearly everybody by the same few names.
"""

from __future__ import annotations

import random

from msm_hpc.corpus.prompts import pool


def draw_names(seed: str, count: int) -> tuple[str, ...]:
    """Full names that differ in both parts; the same for the same seed."""
    rng = random.Random(f"names/{seed}")
    given, family = (rng.sample(pool(each).split(), count) for each in ("given_names", "family_names"))
    return tuple(" ".join(name) for name in zip(given, family, strict=True))


def draw_angles(seed: str, count: int) -> tuple[str, ...]:
    """Points of view to start from."""
    rng = random.Random(f"angles/{seed}")
    angles = pool("angles").splitlines()
    return tuple(rng.sample(angles, min(count, len(angles))))


def draw_words(seed: str, average: int) -> int:
    """How long a text is to be, in words: around ``average``, seldom half or double of it."""
    factor = random.Random(f"words/{seed}").lognormvariate(-0.045, 0.3)  # has the mean 1
    return max(20, round(average * min(max(factor, 0.5), 2.0) / 10) * 10)
