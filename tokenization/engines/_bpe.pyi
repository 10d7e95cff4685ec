from typing import Any

from numpy.typing import NDArray

class Bpe:
    def __init__(
        self,
        kinds: NDArray[Any],
        byte_tokens: NDArray[Any],
        merges: NDArray[Any],
        digits: int,
        whole: dict[str, int],
        added: dict[str, int],
    ) -> None: ...
    def encode(self, texts: list[str], end: int) -> tuple[bytes, bytes]:
        """Token ids (int32) and offsets (int64) of the texts, each with ``end`` after it if that is not negative."""
