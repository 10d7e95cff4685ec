"""A process that has imported all that a rank needs, and forks ranks: importing Megatron takes ten seconds of CPU.

``python -m tests.training.warm`` is asked by lines on stdin, and answers each by a line with the ranks' exit statuses.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class World:
    """The ranks to fork, each with its log, to call ``function``, as ``module:name``; see ``ranks.start_ranks``."""

    function: str
    argument: str
    environment: dict[str, str]
    logs: list[str]
    alone: bool


def run_world(world: World) -> list[int]:
    """Exit statuses of the ranks, all of which have ended; the process that forks them is started at the first call."""
    server = _server()
    assert server.stdin and server.stdout
    print(json.dumps(asdict(world)), file=server.stdin, flush=True)
    codes: list[int] = json.loads(server.stdout.readline())
    return codes


@functools.cache
def _server() -> subprocess.Popen[str]:
    """It ends with this process, which closes its stdin."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.training.warm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        cwd=Path(__file__).parents[2],
    )
    atexit.register(server.communicate)
    return server


def main() -> None:
    from tests.training.ranks import import_all

    import_all()
    gc.collect()
    gc.freeze()  # Megatron collects garbage at each checkpoint: in a fork, that would copy and look through all of this
    for line in sys.stdin:
        print(json.dumps(_fork_all(World(**json.loads(line)))), flush=True)


def _fork_all(world: World) -> list[int]:
    ranks: list[int] = []
    for rank, log in enumerate(world.logs):
        leader = ranks[0] if ranks else 0
        child = os.fork()
        if not child:
            os.setpgid(0, leader)
            _be_rank(world, rank, log)
        os.setpgid(child, leader)  # here too, since the ranks may be killed before the child runs
        ranks.append(child)
    codes = _wait(ranks, world.alone)
    with suppress(ProcessLookupError):
        os.killpg(ranks[0], signal.SIGKILL)
    return [codes[rank] if rank in codes else _code(os.waitpid(rank, 0)) for rank in ranks]


def _wait(ranks: list[int], alone: bool) -> dict[int, int]:
    """Until all ranks have ended, one has failed (the others would wait for it), or it takes too long."""
    codes: dict[int, int] = {}
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        for rank in set(ranks) - codes.keys():
            if (ended := os.waitpid(rank, os.WNOHANG))[0]:
                codes[rank] = _code(ended)
        if len(codes) == len(ranks) or (any(codes.values()) and not alone):
            break
        time.sleep(0.05)
    time.sleep(0.2)  # a killed process group does not end in one instant, and a failed rank takes others down with it
    return codes


def _code(ended: tuple[int, int]) -> int:
    return os.waitstatus_to_exitcode(ended[1])


def _be_rank(world: World, rank: int, log: str) -> None:
    """Make the call in this fork, which ends."""
    for place, descriptor in ((os.devnull, 0), (log, 1)):
        os.dup2(os.open(place, os.O_RDWR | os.O_CREAT | os.O_APPEND), descriptor)
    os.dup2(1, 2)
    os.environ.clear()
    os.environ.update(world.environment, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(len(world.logs)))
    status = 1
    try:
        module, name = world.function.split(":")
        getattr(import_module(module), name)(world.argument)
        status = 0
    except BaseException:  # broad: as the interpreter would, which this fork must not go back to
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
