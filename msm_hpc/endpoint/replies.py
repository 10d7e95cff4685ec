"""Replies on disk: one line of JSON each, appended as they arrive and never changed.

Lines are written together, at most every 50 ms, with one ``write`` and one ``fdatasync``; only then is a reply passed
on. Each line has its prompt's key and what all requests up to it have cost, so the last line is the folder's account. A
process that dies leaves at most one torn line behind its last sync, which the next one cuts off.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import re
from array import array
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import sync
from msm_hpc.endpoint.offsets import KEY_BYTES, Offsets
from msm_hpc.endpoint.prompts import Reject, Reply, Result
from msm_hpc.endpoint.spending import Spent

FILE = "replies.jsonl"
SECONDS_BETWEEN_SYNCS = 0.05
_BEGIN, _END = b'{"key":"', b"}}\n"
_HEX = re.compile(rb"[0-9a-f]{%d}" % (2 * KEY_BYTES))
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
_BLOCK = 1 << 16

log = logging.getLogger(__name__)


class Line(msgspec.Struct):
    """One line of the file; the last of a run may have no key, only what was spent."""

    spent: dict[str, Spent]
    key: str = ""
    reply: Reply | None = None
    reject: Reject | None = None


_LINES = msgspec.json.Decoder(Line)
_JSON = msgspec.json.Encoder()


class Replies:
    """A folder's replies, open for one process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _lock(self._file, self._path)
            self._offsets, self._end = _index(self._path)
            os.ftruncate(self._file, self._end)
            sync(folder)
        except BaseException:  # broad: the file is closed, whatever ends the opening; raised again
            os.close(self._file)
            raise
        self._unwritten: list[tuple[bytes, str, Callable[[], None]]] = []
        self._results: dict[str, Result] = {}  # of what is not on disk yet
        self._wanted = asyncio.Event()
        self._closing = False
        self.failed = False  # whether what was added cannot be written
        self._thread = ThreadPoolExecutor(1, "replies")

    def __len__(self) -> int:
        return len(self._offsets)

    def find(self, key: str) -> Result | None:
        """How a prompt ended, if it has; only a line that can be read counts."""
        if key in self._results:
            return self._results[key]
        offset = self._offsets.get(key)
        line = None if offset is None else _read(self._file, offset)
        return None if line is None or line.key != key else line.reply or line.reject

    def add(self, key: str, result: Result, spent: Mapping[str, Spent], on_disk: Callable[[], None]) -> None:
        """Write how a prompt ended; ``on_disk`` is called when that is sure."""
        kind = b"reply" if isinstance(result, Reply) else b"reject"
        parts = (_BEGIN, key.encode(), b'","', kind, b'":', _JSON.encode(result), b',"spent":', _JSON.encode(spent))
        self._results[key] = result
        self._unwritten.append((b"".join((*parts, b"}\n")), key, on_disk))
        self._wanted.set()

    async def write(self) -> None:
        """Keep writing what is added, until :meth:`finish`.

        Raises:
            OSError: the file cannot be written; it ends with a whole line all the same.
        """
        while not (self._closing and not self._unwritten):
            await self._wanted.wait()
            self._wanted.clear()
            lines, self._unwritten = self._unwritten, []
            if lines:
                await self._commit(lines)
                await asyncio.sleep(0 if self._closing else SECONDS_BETWEEN_SYNCS)

    def finish(self) -> None:
        """Let :meth:`write` end when everything is on disk."""
        self._closing = True
        self._wanted.set()

    async def written(self) -> None:
        """Wait until everything that was added is on disk, or cannot be."""
        while self._results and not self.failed:
            await asyncio.sleep(SECONDS_BETWEEN_SYNCS)

    def close(self, spent: Mapping[str, Spent]) -> None:
        """Release the folder; what failed requests have cost since the last reply is written too."""
        try:
            if not self.failed and dict(spent) != self.spent:
                self._append(b'{"spent":' + _JSON.encode(spent) + b"}\n")
        finally:
            self._thread.shutdown()
            os.close(self._file)

    @property
    def spent(self) -> dict[str, Spent]:
        """What all requests have cost, as the last line on disk says."""
        return _spent(self._file, self._end)

    async def _commit(self, lines: list[tuple[bytes, str, Callable[[], None]]]) -> None:
        begin = self._end
        data = b"".join(line for line, _, _ in lines)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._append, data)
        for line, key, on_disk in lines:
            self._offsets.add(key, begin)
            del self._results[key]
            begin += len(line)
            on_disk()

    def _append(self, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            os.fdatasync(self._file)
        except OSError as error:
            self.failed = True
            os.ftruncate(self._file, self._end)
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self._end += len(data)


def spent(folder: Path) -> Mapping[str, Spent]:
    """What all requests of a folder have cost, by model; also while they are running."""
    try:
        file = os.open(folder / FILE, os.O_RDONLY)
    except FileNotFoundError:
        return {}
    try:
        return _spent(file, os.fstat(file).st_size)
    finally:
        os.close(file)


def take_part_of_cost(folder: Path, sharers: int) -> None:
    """Of what the replies of ``folder`` have cost, leave one of so many equal parts."""
    replies = Replies(folder)
    replies.close({model: each.part(sharers) for model, each in replies.spent.items()})


def _lock(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"{path}: another process writes its replies here; wait until it ends, or give this run a folder of its own"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("%s: this file system has no locks; nothing keeps two processes apart here", path)


def _index(path: Path) -> tuple[Offsets, int]:
    """Where each key's line begins, and where the last whole line ends; a line that is damaged is not there."""
    keys, offsets, at, end = bytearray(), array("q"), 0, 0
    first, last = len(_BEGIN), len(_BEGIN) + 2 * KEY_BYTES
    with path.open("rb", buffering=1 << 20) as file:
        for line in file:
            if line.endswith(_END):
                end = at + len(line)
                if line.startswith(_BEGIN) and (key := _HEX.fullmatch(line, first, last)):
                    keys += bytes.fromhex(key[0].decode())
                    offsets.append(at)
            at += len(line)
    if at > end:
        log.warning("%s: cut off %d bytes of a line that was not written whole", path, at - end)
    return Offsets(keys, offsets), end


def _read(file: int, offset: int) -> Line | None:
    data = b""
    while not (end := data.find(b"\n") + 1):
        block = os.pread(file, _BLOCK, offset + len(data))
        if not block:
            return None
        data += block
    return _decode(data[:end])


def _spent(file: int, end: int) -> dict[str, Spent]:
    """The account in the last whole line before ``end``."""
    begin, data = end, b""
    while begin:
        size = min(_BLOCK, begin)
        begin -= size
        data = os.pread(file, size, begin) + data
        lines = data.split(b"\n")[0 if not begin else 1 : -1]  # whole lines only
        for each in reversed(lines):
            line = _decode(each)
            if line is not None:
                return line.spent
    return {}


def _decode(line: bytes) -> Line | None:
    try:
        return _LINES.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
