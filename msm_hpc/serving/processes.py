"""A server as a process: one for a base and its GPUs, which the steps of a job use one after another.

The job's folder of servers has, for a set of GPUs, an *address*: which server is there, of what. A step that wants the
same shakes hands with it, and has it load an adapter; one that wants another ends it and starts its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from msm_hpc.base.errors import ServerLostError, StoppedBySignalError, UserError
from msm_hpc.base.files import read_json, write_json
from msm_hpc.base.stopping import current_request
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.serving import Serving
from msm_hpc.serving import keeper, vllm
from msm_hpc.serving.device import devices
from msm_hpc.serving.handshake import shake_hands
from msm_hpc.serving.kept import FOLDER, Address, end, kept
from msm_hpc.serving.names import check_is_model, endpoint_of, name_here, name_of

log = logging.getLogger(__name__)
PATIENCE_S = 30.0
"""How long a server that answers nothing is waited for: one that has ended will not come back."""
SECONDS_BETWEEN_LOOKS = 0.2
PORTS = 3
"""That are tried, where others take them before the server does."""
LINES_QUOTED = 20


@contextlib.contextmanager
def in_a_process(config: Serving, model: Path, adapter: Path | None) -> Iterator[Endpoint]:
    """An endpoint of a server that runs already, or is started; see :func:`msm_hpc.serving.served`.

    Raises:
        UserError: the model, the adapter or the server's command cannot be used, or another model answers.
        ServerLostError: the server did not live until the end.
    """
    if config.server == "vllm":
        check_is_model(model)
        if adapter is not None:
            vllm.check_rank(config, adapter, model)
    if adapter is not None and config.server == "command" and "{adapter}" not in config.command:
        raise UserError("serving.command: has no {adapter}, and there is one to be served; write it, or merge it")
    with contextlib.nullcontext() if FOLDER in os.environ else kept():
        folder = Path(os.environ[FOLDER].split(" ", 2)[2])
        server = _running(config, model, adapter, folder) or _started(config, model, adapter, folder)
        name, here = name_of(model, adapter), server.name
        with _lost_if_it_ended(server, folder), contextlib.ExitStack() as loaded:
            if adapter is not None and config.server == "vllm":
                here = name_here(name)
                vllm.load(server.url, here, adapter, server.name)
                loaded.callback(_forget, server, here)
            endpoint = endpoint_of(config, server.url, name, here, PATIENCE_S)
            yield replace(endpoint, body=vllm.asked_for(model)) if config.server == "vllm" else endpoint


def _running(config: Serving, model: Path, adapter: Path | None, folder: Path) -> Address | None:
    """The server on this process's GPUs, if it is the one that is wanted; another one is ended."""
    file = _file(folder)
    if not file.exists():
        return None
    found = Address(**read_json(file))
    fits = found.serves == _wanted(config, model, adapter) and (found.adapters or adapter is None)
    if fits and found.alive and _answers(found):
        log.info("%s is running already, and is asked", found.name)
        return found
    end(file)
    return None


def _started(config: Serving, model: Path, adapter: Path | None, folder: Path) -> Address:
    """A server, once it answers; on another port, where somebody else took the first one meanwhile.

    Raises:
        UserError: it ended, did not answer in time, or is none of this model; its last lines say why.
    """
    for port in (_free_port() for _ in range(PORTS - 1)):
        try:
            return _started_at(port, config, model, adapter, folder)
        except UserError as error:
            if not _is_taken(port):
                raise
            log.warning("port %d was taken by another program, so that another one is tried: %s", port, error)
    return _started_at(_free_port(), config, model, adapter, folder)


def _started_at(port: int, config: Serving, model: Path, adapter: Path | None, folder: Path) -> Address:
    here, file = name_here(name_of(model)), _file(folder)
    url, adapters = f"http://127.0.0.1:{port}/v1", adapter is not None
    environment: Mapping[str, str] = os.environ
    if config.server == "vllm":
        command, environment = vllm.command(config, model, here, port, adapters, folder), vllm.environment()
    else:
        places = {"model": str(model), "adapter": str(adapter or ""), "port": str(port), "name": here}
        command = [_filled(part, places) for part in shlex.split(config.command)]
    owner, start, _ = os.environ[FOLDER].split(" ", 2)
    address = Address(url, here, _wanted(config, model, adapter), adapters, 0, "not yet")
    write_json(file, asdict(address))  # the server runs as long as this is there
    log.info("starting %s: %s", here, shlex.join(command))
    with _log(folder, here).open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-I", keeper.__file__, owner, start, str(file), *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    address = replace(address, keeper=process.pid, started=keeper.start_of(process.pid))
    write_json(file, asdict(address))
    try:
        _wait_until_it_answers(config, address, process, folder)
        if config.server == "vllm":
            vllm.check_chats(url, here, model)
    except BaseException:  # broad: whatever it was, this server is not to be found by the next step; raised again
        end(file)
        raise
    return address


def _wait_until_it_answers(config: Serving, server: Address, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + config.ready_s
    while not _answers(server):
        current_request().obey("while its server started")
        how = f"ended with status {process.returncode}" if process.poll() is not None else ""
        if not how and time.monotonic() > deadline:
            how = f"did not answer within {config.ready_s:.0f} s (serving.ready_s)"
        if how:
            raise UserError(f"the server of serving.server={config.server} {how}; {_last_lines(folder, server.name)}")
        time.sleep(SECONDS_BETWEEN_LOOKS)
    log.info("%s answers at %s", server.name, server.url)


def _answers(server: Address) -> bool:
    """Whether it does, and under its name.

    Raises:
        UserError: something else answers there.
    """
    try:
        shake_hands(server.url, server.name)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _lost_if_it_ended(server: Address, folder: Path) -> Iterator[None]:
    """What fails while this is open is a lost server's fault, if it is lost."""
    try:
        yield
    except StoppedBySignalError:
        raise
    except Exception as error:  # broad: whatever it failed of; raised again
        if not (server.alive and _answers(server)):
            raise _lost(server, folder) from error
        raise
    if not _answers(server):
        raise _lost(server, folder)


def _lost(server: Address, folder: Path) -> ServerLostError:
    return ServerLostError(f"{server.name} ended or hangs while it is asked; {_last_lines(folder, server.name)}")


def _forget(server: Address, adapter: str) -> None:
    with contextlib.suppress(OSError):  # the server has ended, which is found elsewhere
        vllm.unload(server.url, adapter)


def _wanted(config: Serving, model: Path, adapter: Path | None) -> str:
    """What a server is of: of vLLM all but the adapter, which it loads when it runs."""
    served = name_of(model, adapter if config.server == "command" else None)
    settings = (served, config.server, config.command, config.python, config.arguments, config.tuning)
    return hashlib.sha256(repr((*settings, config.max_lora_rank)).encode()).hexdigest()


def _file(folder: Path) -> Path:
    return folder / f"{hashlib.sha256(devices().encode()).hexdigest()[:8]}.address"


def _log(folder: Path, name: str) -> Path:
    return folder / f"{name}.log"


def _last_lines(folder: Path, name: str) -> str:
    lines = _log(folder, name).read_text(errors="replace").splitlines()
    return "\n  ".join(["its last lines:", *lines[-LINES_QUOTED:]])


def _filled(part: str, places: Mapping[str, str]) -> str:
    for name, value in places.items():
        part = part.replace(f"{{{name}}}", value)
    return part


def _free_port() -> int:
    """One that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _is_taken(port: int) -> bool:
    """Whether somebody listens there, now that the server does not."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0
