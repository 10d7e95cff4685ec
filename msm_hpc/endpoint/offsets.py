"""Where in a file each key's line begins: 24 bytes a key, however many there are."""

from __future__ import annotations

from array import array

import numpy as np

KEY_BYTES = 16
RECENT = 1 << 16


class Offsets:
    """A map from keys (hexadecimal; the first 16 bytes count) to offsets: sorted arrays, and a dict of what is new."""

    def __init__(self, keys: bytes | bytearray, offsets: array[int]) -> None:
        self._recent: dict[bytes, int] = {}
        self._keys = np.empty(0, f"S{KEY_BYTES}")
        self._offsets = np.empty(0, np.int64)
        self._merge(np.frombuffer(keys, self._keys.dtype), np.asarray(offsets, np.int64))

    def __len__(self) -> int:
        return len(self._keys) + len(self._recent)

    def add(self, key: str, offset: int) -> None:
        """Note where a key's line begins; the last that was noted counts."""
        self._recent[bytes.fromhex(key[: 2 * KEY_BYTES])] = offset
        if len(self._recent) == RECENT:
            new = b"".join(self._recent)
            self._merge(np.frombuffer(new, self._keys.dtype), np.fromiter(self._recent.values(), np.int64))
            self._recent.clear()

    def get(self, key: str) -> int | None:
        """The offset of a key, or None."""
        wanted = bytes.fromhex(key[: 2 * KEY_BYTES])
        if wanted in self._recent:
            return self._recent[wanted]
        if not len(self._keys):
            return None
        at = int(np.searchsorted(self._keys, np.frombuffer(wanted, self._keys.dtype), side="right")[0]) - 1
        if at >= 0 and self._keys[at] == wanted.rstrip(b"\0"):  # numpy strips zeros at the end
            return int(self._offsets[at])
        return None

    def _merge(self, keys: np.ndarray, offsets: np.ndarray) -> None:
        keys, offsets = np.concatenate([self._keys, keys]), np.concatenate([self._offsets, offsets])
        order = np.argsort(keys, kind="stable")
        self._keys, self._offsets = keys[order], offsets[order]
