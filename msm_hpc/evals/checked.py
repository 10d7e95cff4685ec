"""Asking until there is an answer: an hour without the judge must not leave holes in a table for good.

What a model refuses or garbles is its answer. A request that *failed* is none: a step with such requests ends with an
error, and the next `msm run` asks them again, and only them. What fails in several runs, while others were answered, is
scored as missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msm_hpc import endpoint
from msm_hpc.base.errors import UserError
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.endpoint import Engine, Prompt, Reject
from msm_hpc.endpoint.prompts import UNANSWERED, Result
from msm_hpc.endpoint.streams import Prompts

FILE = "failed.txt"
"""Beside the replies: the key of each prompt that failed, a line for each run."""
RUNS = 3
_ASKED_AGAIN = UNANSWERED - {"bad_request"}


class CheckedEngine:
    """Asks as an engine does, and notes what was not answered."""

    def __init__(self, engine: Engine, where: Endpoint, folder: Path) -> None:
        self._engine, self._where, self._file = engine, where, folder / FILE
        self._failed: set[str] = set()
        self._asked = self._unanswered = 0
        self._why = ""

    async def ask(self, prompts: Prompts) -> AsyncIterator[tuple[Prompt, Result]]:
        """Each prompt with how it ended, in the order of arrival."""
        async for prompt, result in self._engine.ask(prompts):
            self._asked += 1
            if isinstance(result, Reject) and result.reason in UNANSWERED:
                self._unanswered += 1
                self._why = f"{result.reason}: {result.detail}"
                if result.reason in _ASKED_AGAIN:
                    self._failed.add(prompt.key(self._where))
            yield prompt, result

    def check(self) -> None:
        """Note what has failed.

        Raises:
            UserError: something has that the next run asks again, or nothing at all was answered.
        """
        name = f"endpoint {self._where.base_url}, model {self._where.model}"
        if again := self._to_ask_again():
            raise UserError(
                f"{name}: {again} of {self._asked} prompts were not answered (the last: {self._why}); run again: only "
                f"these are asked then. What is not answered in {RUNS} runs is scored as missing"
            )
        if self._asked and self._unanswered == self._asked:
            raise UserError(f"{name}: not one of {self._asked} prompts was answered ({self._why}); correct this")

    def _to_ask_again(self) -> int:
        """How many have failed since the last look, and not yet in too many runs."""
        failed, self._failed = self._failed, set()
        if not failed:
            return 0
        with self._file.open("a") as file:
            file.writelines(f"{key}\n" for key in failed)
        times = Counter(self._file.read_text().split())
        return sum(times[key] < RUNS for key in failed)


@asynccontextmanager
async def checked(where: Endpoint, folder: Path) -> AsyncIterator[CheckedEngine]:
    """An engine that asks ``where`` and keeps the replies in ``folder``, and is checked at the end.

    Raises:
        UserError: as :meth:`CheckedEngine.check` and :func:`msm_hpc.endpoint.opened`.
    """
    async with endpoint.opened(where, folder) as engine:
        own = CheckedEngine(engine, where, folder)
        yield own
        own.check()
