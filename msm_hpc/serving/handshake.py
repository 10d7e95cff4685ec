"""Whether a server is the one that we mean, asked of the server."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.endpoint.transport import NO_KEY

SECONDS = 20.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach this machine's own ports


def shake_hands(url: str, name: str, parent: str | None = None) -> None:
    """Check that the server at ``url`` has a model called ``name``: an adapter of ``parent``, where that is given.

    Raises:
        OSError: no answer, or not yet.
        UserError: it serves something else, or does not say what.
    """
    try:
        listed = ask(f"{url}/models", seconds=SECONDS)
    except urllib.error.HTTPError as error:
        if error.code >= 500:  # as while it loads its model
            raise
        raise UserError(f"the server at {url} cannot be asked what it serves: {said(error)}") from error
    models = {str(each["id"]): each for each in listed["data"]} if isinstance(listed, dict) and "data" in listed else {}
    if name not in models:
        raise UserError(
            f"the server at {url} is another one: it serves {', '.join(sorted(models)) or 'nothing'}, and not {name}; "
            "run again, and if that does not help, see that its command passes the name on"
        )
    if parent is not None and models[name].get("parent") != parent:
        raise UserError(
            f"the server at {url} serves {name} as an adapter of {models[name].get('parent')}, and not of {parent}: "
            "its replies would be another model's"
        )


def ask(url: str, body: Mapping[str, Any] | None = None, seconds: float = SECONDS) -> Any:
    """The JSON that a server answers with, to GET or, with a ``body``, to POST; None where it answers with other text.

    Raises:
        OSError: no answer, or an error's status (``urllib.error.HTTPError``).
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {NO_KEY}"}
    request = urllib.request.Request(url, data, headers)
    try:
        with _OPENER.open(request, timeout=seconds) as response:
            text = response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"no HTTP: {error!r}") from error
    try:
        return json.loads(text)
    except ValueError:
        return None


def said(error: OSError) -> str:
    """What a server said with an error's status, or what kept it from being asked."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code}: {error.read().decode(errors='replace')[:500]}"
    return str(error)
