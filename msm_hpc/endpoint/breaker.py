"""Where everything fails, one clear error in place of a thousand paid or unpaid failures."""

from __future__ import annotations

import time
from collections import Counter

from msm_hpc.base.errors import UserError
from msm_hpc.endpoint.prompts import Reject, Reply, Result

PROMPTS = 20
REJECTS = 100


class Breaker:
    """Watches what all requests together come to.

    It is open when ``PROMPTS`` different prompts in a row have failed at their first request: then the endpoint is at
    fault and not they. It stays open until a request is answered, for ``patience_s`` at most.
    """

    def __init__(self, name: str, patience_s: float) -> None:
        self._name = name
        self._patience_s = patience_s
        self._failed = 0
        self._since: float | None = None
        self._rejects: Counter[str] = Counter()

    @property
    def open(self) -> bool:
        """Whether the endpoint fails at everything."""
        return self._failed >= PROMPTS

    def answered(self) -> None:
        """A request was answered."""
        self._failed, self._since = 0, None

    def failed(self, first: bool, detail: str) -> None:
        """A request has failed; ``first`` is the first of its prompt.

        Raises:
            UserError: so has everything, for long enough.
        """
        now = time.monotonic()
        self._since = self._since or now
        self._failed += first
        if self.open and now - self._since >= self._patience_s:
            raise UserError(
                f"{self._name}: nothing was answered for {now - self._since:.0f} s; the last failure: {detail}; see "
                "what is wrong there and run again: nothing that was answered is asked again"
            )

    def ended(self, result: Result) -> None:
        """A prompt has ended.

        Raises:
            UserError: the last ``REJECTS`` prompts have all been rejected; who knows what the next thousands cost.
        """
        if isinstance(result, Reply):
            self._rejects.clear()
            return
        self._rejects[result.reason] += 1
        if self._rejects.total() >= REJECTS:
            counts = ", ".join(f"{count} {reason}" for reason, count in self._rejects.most_common())
            raise UserError(f"{self._name}: {REJECTS} prompts in a row gave no usable reply ({counts}); {_say(result)}")


def _say(last: Reject) -> str:
    return f"the last: {last.detail}; correct the endpoint or the prompts and run again"
