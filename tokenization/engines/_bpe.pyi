from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

class Bpe:
    """Of the tables, see ``Tables``; ``added`` tokens are looked for in the given order."""

    def __new__(
        cls,
        kinds: NDArray[Any],
        byte_tokens: NDArray[Any],
        merges: NDArray[Any],
        digits: int,
        whole: dict[str, int],
        added: dict[str, int],
        /,
    ) -> Bpe: ...
    def encode(self, texts: tuple[str, ...], normal: Callable[[str], str] | None, end: int, /) -> tuple[bytes, bytes]:
        """Token ids (int32) and offsets (int64) of the texts, each with ``end`` after it if that is not negative.

        A text that may not be in normal form C is replaced by what ``normal`` makes of it.
        """
