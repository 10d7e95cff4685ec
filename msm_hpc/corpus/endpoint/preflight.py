"""Whether an endpoint can be asked at all, before anything is queued."""

from __future__ import annotations

from msm_hpc.config.endpoint import Endpoint


async def check(endpoint: Endpoint) -> None:
    """Ask which models there are; nothing is paid for.

    Raises:
        UserError: no key or a wrong one, no answer at this address, or no such model; one line, with the fix.
    """
    raise NotImplementedError
