"""How many requests are in flight: more while they are answered, fewer when the endpoint pushes back.

Additive increase, multiplicative decrease, as in TCP: the limit doubles in each round trip until the endpoint first
pushes back, and from then on grows by one; being pushed back takes a quarter off, once for all requests of one round
trip.
"""

from __future__ import annotations

import asyncio
from collections import deque

START = 64
SHRINK = 0.75


class Pace:
    """The limit, and who waits for it to allow one more."""

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._doubling = True
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._shrunk = 0.0
        self.limit = min(self._most, float(START))

    async def __aenter__(self) -> None:
        """Wait until one more request may be in flight; it may be while this is open."""
        if self._running >= self.limit:
            await self._wait()
        else:
            self._running += 1

    async def __aexit__(self, *exception: object) -> None:
        """It is in flight no more."""
        self._running -= 1
        self._admit()

    def answered(self) -> None:
        """A request was answered: allow more."""
        self.limit = min(self._most, self.limit + (1.0 if self._doubling else 1.0 / self.limit))

    def pushed_back(self, began: float) -> None:
        """A request that ``began`` at this time met 429: allow fewer."""
        if began >= self._shrunk:
            self.limit = max(1.0, self.limit * SHRINK)
            self._doubling = False
            self._shrunk = asyncio.get_running_loop().time()

    def probe(self) -> None:
        """Nothing is answered any more: allow one, until one is, and then grow as in the beginning."""
        self.limit = 1.0
        self._doubling = True

    async def _wait(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # admitted at the same moment
                self._running -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and self._running < self.limit:
            place = self._waiting.popleft()
            if not place.done():
                self._running += 1
                place.set_result(None)
