"""The fields of a row, split by msgspec and decoded one by one."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar, get_args

import msgspec

from tokenization.reading.rows import BadRow, Message, Reason, Role, RowPlace

T = TypeVar("T")

Fields: TypeAlias = dict[str, msgspec.Raw]


def take(decoder: msgspec.json.Decoder[T], fields: Fields, key: str, place: RowPlace) -> T | None:
    """The decoded field, taken out of ``fields``; None where it is not there.

    Raises:
        BadRow: it is of another type.
    """
    raw = fields.pop(key, None)
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise wrong_type(error, key, place) from None


def given(value: Any, *, deep: bool) -> Any:
    """``value`` without fields that are null, which is the same as leaving them out.

    Args:
        value: an object, or a list of them; anything else is returned as it is.
        deep: whether those of objects in objects are left out too. A table fills these up as well, since all objects of
            a column have the same fields; in JSON, where somebody wrote them, they are an argument of a tool's call.
    """
    if isinstance(value, list):
        return [given(item, deep=deep) for item in value]
    if isinstance(value, dict):
        return {key: given(item, deep=deep) if deep else item for key, item in value.items() if item is not None}
    return value


def others(fields: Fields) -> str:
    """What else a row has, that lacks what is looked for."""
    return f"there is only {', '.join(fields)}" if fields else "there is nothing else, and null counts as nothing"


def wrong_type(error: msgspec.ValidationError, key: str, place: RowPlace) -> BadRow:
    """msgspec's ``Expected `str`, got `int` - at `$[0].content``` as ``messages[0].content: expected …``."""
    what, _, path = str(error).partition(" - at `$")
    reason: Reason = "field" if "field" in what or "enum" in what else "type"
    fix = "fix the row"
    if "unknown field" in what:
        fix = f"leave only {', '.join(Message.__struct_fields__)}" if key == "messages" else "remove it"
    if "enum" in what:
        fix = f"give one of {', '.join(get_args(Role))}"
    return BadRow(reason, place, f"{key}{path.rstrip('`')}: {what[0].lower()}{what[1:]}; {fix}")
