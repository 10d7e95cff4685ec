from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from msm_hpc.endpoint.pace import Pace


def test_the_limit_doubles_until_it_is_pushed_back_and_then_grows_by_one() -> None:
    async def main() -> None:
        pace, loop = Pace(512), asyncio.get_running_loop()
        for _ in range(64):
            pace.answered()
        assert pace.limit == 128
        began = loop.time()
        await asyncio.sleep(0.01)
        for _ in range(10):  # of one round trip
            pace.pushed_back(began)
        assert pace.limit == 96
        for _ in range(96):
            pace.answered()
        assert pace.limit == pytest.approx(97, abs=0.1)
        await asyncio.sleep(0.01)
        pace.pushed_back(loop.time())
        assert pace.limit == pytest.approx(97 * 0.75, abs=0.1)
        pace.probe()
        assert pace.limit == 1
        for _ in range(1000):
            pace.answered()
        assert pace.limit == 512

    asyncio.run(main())


def test_no_more_are_in_flight_than_the_limit_and_none_that_wait_are_forgotten() -> None:
    async def main() -> None:
        pace, running, most, done = Pace(3), 0, 0, 0

        async def request() -> None:
            nonlocal running, most, done
            async with pace:
                running += 1
                most = max(most, running)
                try:
                    await asyncio.sleep(0.001)
                finally:  # of those that are cancelled, too
                    running -= 1
            done += 1

        tasks = [asyncio.create_task(request()) for _ in range(40)]
        await asyncio.sleep(0.002)
        for each in tasks[::4]:
            each.cancel()
        finished = await asyncio.gather(*tasks, return_exceptions=True)
        assert most == 3 and done == finished.count(None) >= 30
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await asyncio.wait_for(stack.enter_async_context(pace), 1)

    asyncio.run(main())
