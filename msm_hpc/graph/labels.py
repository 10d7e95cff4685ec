"""What trained models are called, for people: no part of an identity."""

from __future__ import annotations

from msm_hpc.config.arms import Chain
from msm_hpc.config.campaign import Config


def label_parts(arm: str, spec: str | None, size: int | None, seed: int | None) -> tuple[object, ...]:
    """The label of a trained model, in parts: ``affordability``, ``msm+aft``, ``300``, ``seed1``."""
    return spec, arm, size, None if seed is None else f"seed{seed}"


def arms_by_chain(config: Config) -> dict[Chain, str]:
    """The name in the labels of what a chain of stages trains.

    It is the arm that ends with the chain, or else the first arm that goes through it; ``base`` for the part before
    every arm.
    """
    chains = {arm: config.chain(arm) for arm in config.campaign.arms}
    found: dict[Chain, str] = {}
    for arm, chain in chains.items():
        found.setdefault(chain, arm)
    for arm, chain in chains.items():
        for end in range(1, len(chain) + 1):
            found.setdefault(chain[:end], arm)
    return found | {chain: "base" for chain in found if len(chain) <= len(config.start)}
