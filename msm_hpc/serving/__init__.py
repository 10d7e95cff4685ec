"""A model behind an OpenAI-compatible server of our own, for as long as a job needs it.

>>> with served(config.serving, inputs.model, inputs.adapter) as endpoint:
...     async for prompt, result in ask(endpoint, prompts, out / "_replies"):
...         ...

A server has a name of its own, made of a hash of what it serves and of the job: requests ask for that name, and a reply
that comes under another is a reject. So nothing that listens on the same port by chance can answer in its place. The
prompts' keys have the hash alone, so that another job finds the replies of this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.serving import Serving
from msm_hpc.serving.kept import kept

__all__ = ["asked", "kept", "served"]


def served(config: Serving, model: Path, adapter: Path | None = None) -> AbstractContextManager[Endpoint]:
    """An endpoint that answers for exactly this model, while this is open.

    Args:
        config: which server, and how it is started.
        model: a Hugging Face folder.
        adapter: the export of an adapter that was trained on ``model``; it is served beside the weights, not merged.

    Raises:
        UserError: the model, the adapter or the server's command cannot be used, or another model answers.
        ServerLostError: the server did not live until the end; what it had answered is on disk.
    """
    if config.server == "transformers":
        from msm_hpc.serving.in_process import in_process  # here, since it imports torch

        return in_process(config, model, adapter)
    from msm_hpc.serving.processes import in_a_process  # here, since it imports tokenizers

    return in_a_process(config, model, adapter)


@contextmanager
def asked(endpoint: Endpoint, config: Serving | None, model: Path | None) -> Iterator[Endpoint]:
    """``endpoint`` itself or, with a ``config``, as a server of ``model`` that is started for it.

    Raises:
        UserError, ServerLostError: as :func:`served`.
    """
    if config is None or model is None:
        yield endpoint
        return
    with served(config, model) as ours:
        yield replace(
            endpoint,
            base_url=ours.base_url,
            asked_as=ours.asked,
            timeout_s=ours.timeout_s,
            patience_s=ours.patience_s,
            body={**ours.body, **endpoint.body},
        )
