"""Whether an endpoint can be asked at all, before anything is queued."""

from __future__ import annotations

import openai

from msm_hpc.base.errors import UserError
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.endpoint.failures import in_a_line, key_refused
from msm_hpc.endpoint.transport import client

SECONDS = 20.0
SHOWN = 8


async def check(endpoint: Endpoint) -> None:
    """Ask which models there are; nothing is paid for.

    Raises:
        UserError: no key or a wrong one, no answer at this address, or no such model; one line, with the fix.
    """
    name = f"endpoint {endpoint.base_url}"
    async with client(endpoint) as known:
        try:
            models = [each.id async for each in known.with_options(max_retries=1, timeout=SECONDS).models.list()]
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise key_refused(endpoint, in_a_line(error)) from error
        except openai.APIConnectionError as error:
            raise UserError(
                f"{name}: no answer ({error.__cause__ or error}); start the server, or correct endpoint.base_url"
            ) from error
        except openai.NotFoundError as error:
            said = in_a_line(error)
            raise UserError(
                f"{name}: has no list of models ({said}); correct endpoint.base_url, which often ends in /v1"
            ) from error
        except openai.APIError as error:
            raise UserError(f"{name}: cannot say which models it has ({in_a_line(error)}); try again later") from error
    if endpoint.asked not in models:
        more = ", …" if len(models) > SHOWN else ""
        raise UserError(
            f"{name}: no model {endpoint.asked!r}; correct endpoint.model to one of: {', '.join(models[:SHOWN])}{more}"
        )
