"""Megatron-core on a machine without a GPU: its hard-coded CUDA calls are redirected to the CPU.

Megatron names ``"cuda"`` in places that no configuration reaches: ``torch.zeros(..., device="cuda")``,
``tensor.cuda()``, ``torch.cuda.current_device()``, ``tensor.type() == "torch.cuda.FloatTensor"``. Inside
:func:`redirected` each of these is replaced by its CPU meaning, and on exit each is put back. Everything else
(parallelism, schedules, optimizer, checkpoints) is Megatron's own code, unchanged, over gloo instead of NCCL. The list
is what training with megatron-core 0.16.1 calls, found by counting; another version may need another.

Where there is a GPU, :func:`redirected` does nothing.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

_FACTORIES = ("tensor", "zeros")
_ABSENT = object()
_active = False


@contextlib.contextmanager
def redirected() -> Iterator[None]:
    """While this is open, CUDA calls run on the CPU; nothing changes where a GPU exists, nor when nested."""
    global _active
    if _active or torch.cuda.is_available():
        yield
        return
    # Compiling the few fused functions takes longer than they could save on a CPU. Read when megatron is imported.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    with contextlib.ExitStack() as patches:
        _active = True
        patches.callback(_deactivate)
        _expect_warnings(patches)
        _import_megatron()
        _redirect_devices(patches)
        _redirect_collectives(patches)
        _redirect_random(patches)
        _replace_functions(patches)
        yield


def _expect_warnings(patches: contextlib.ExitStack) -> None:
    """Ignore warnings: Megatron repeats that Apex is absent, and calls collectives by deprecated names."""
    patches.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=r"megatron\.|torch\.distributed")


def _import_megatron() -> None:
    """Without W&B, which it imports for the sake of its inference: that takes a third of the time."""
    modules: dict[str, Any] = sys.modules
    hidden = "wandb" not in modules
    if hidden:
        modules["wandb"] = None
    try:
        from msm_hpc.training.megatron import private  # noqa: F401
    finally:
        if hidden:
            del modules["wandb"]


def _deactivate() -> None:
    global _active
    _active = False


def _replace(patches: contextlib.ExitStack, owner: Any, name: str, new: Any) -> None:
    old = vars(owner).get(name, _ABSENT)
    setattr(owner, name, new)
    if old is _ABSENT:
        patches.callback(delattr, owner, name)
    else:
        patches.callback(setattr, owner, name, old)


def _redirect_devices(patches: contextlib.ExitStack) -> None:
    _replace(patches, torch.cuda, "current_device", lambda: "cpu")
    _replace(patches, torch.cuda, "set_device", lambda device: None)
    _replace(patches, torch.cuda, "synchronize", lambda: None)
    _replace(patches, torch.Tensor, "cuda", lambda self, *args, **kwargs: self)
    _replace(patches, torch.nn.Module, "cuda", lambda self, *args, **kwargs: self)
    _replace(patches, torch.Tensor, "type", _type_as_cuda(torch.Tensor.type))
    for name in _FACTORIES:
        _replace(patches, torch, name, _on_cpu(getattr(torch, name)))


def _on_cpu(factory: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(factory)
    def call(*args: Any, **kwargs: Any) -> torch.Tensor:
        device = kwargs.get("device")
        if isinstance(device, int) or (device is not None and str(device).startswith("cuda")):
            kwargs["device"] = "cpu"
        return factory(*args, **kwargs)

    return call


def _type_as_cuda(real: Callable[..., Any]) -> Callable[..., Any]:
    """Megatron's optimizers sort parameters by the string ``tensor.type()``; only Megatron sees ``torch.cuda``."""

    def call(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        answer = real(self, *args, **kwargs)
        caller: str = sys._getframe(1).f_globals.get("__name__", "")
        if args or kwargs or not caller.startswith("megatron."):
            return answer
        return answer.replace("torch.", "torch.cuda.", 1)

    return call


def _redirect_collectives(patches: contextlib.ExitStack) -> None:
    """Replace collectives that gloo does otherwise than NCCL (seen with torch 2.13).

    It reads a non-contiguous tensor as if it were contiguous, without an error. And where a rank is alone in its group,
    it copies the buffer into new memory and back, and hands the nothing that there is to do to another thread: of a
    step of a tiny model that is a fifth.
    """
    from msm_hpc.training.megatron import private

    for name in ("broadcast", "all_reduce"):
        _replace(patches, torch.distributed, name, _checked(getattr(torch.distributed, name)))
    module, names = private.BUFFER_COLLECTIVES
    for name in names:
        _replace(patches, module, name, _in_place(getattr(module, name)))


def _in_place(collective: Callable[..., Any]) -> Callable[..., Any]:
    """Skip the collective of a rank alone: its part of the buffer is the whole, and has the result already."""

    @functools.wraps(collective)
    def call(output: torch.Tensor, source: torch.Tensor, group: torch.distributed.ProcessGroup, **kwargs: Any) -> Any:
        if group.size() > 1:
            return collective(output, source, group=group, **kwargs)
        assert output.data_ptr() == source.data_ptr(), f"{collective.__name__} of a rank alone between two buffers"
        return None

    return call


def _checked(collective: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(collective)
    def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        group = args[1] if len(args) > 1 else kwargs.get("group")
        if torch.distributed.get_world_size(group) == 1 and not kwargs.get("async_op"):
            return None
        if tensor.is_contiguous():
            return collective(tensor, *args, **kwargs)
        assert not kwargs.get("async_op"), f"non-contiguous tensor in an asynchronous {collective.__name__}"
        copy = tensor.contiguous()
        result = collective(copy, *args, **kwargs)
        tensor.copy_(copy)
        return result

    return call


def _replace_functions(patches: contextlib.ExitStack) -> None:
    """Replace functions that cost a small model more than its products, by some that compute the same bits."""
    from msm_hpc.training.megatron import plain, private
    from msm_hpc.training.megatron.rope import rotate_packed

    for (owner, name), new in (
        (private.ROTATE_PACKED, rotate_packed),
        (private.LINEAR, plain.linear),
        (private.LARGEST_LOGITS, staticmethod(plain.largest_logits)),
        (private.NORM, plain.norm),
        (private.SCALE, plain.scale),
        (private.LOCAL_PART, plain.local_part),
        (private.RESET, plain.reset_nothing),
    ):
        _replace(patches, owner, name, new)


def _redirect_random(patches: contextlib.ExitStack) -> None:
    """The generator that Megatron forks for each tensor-parallel rank is the CPU's own."""
    from msm_hpc.training.megatron import private

    def get_state(*args: Any, **kwargs: Any) -> torch.Tensor:
        return torch.get_rng_state()

    def set_state(state: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        torch.set_rng_state(state)

    def unexpected(record: logging.LogRecord) -> bool:
        return private.STATE_CHANGED not in record.getMessage()

    for owner in (torch.cuda, torch.cuda.random):
        _replace(patches, owner, "get_rng_state", get_state)
        _replace(patches, owner, "set_rng_state", set_state)
    _replace(patches, torch.cuda, "manual_seed", torch.manual_seed)
    module, name = private.SET_RANDOM_STATE
    _replace(patches, module, name, set_state)
    for module, name in private.TE_CHECKPOINT:
        _replace(patches, module, name, private.checkpoint)
    logger = logging.getLogger(module.__name__)
    logger.addFilter(unexpected)
    patches.callback(logger.removeFilter, unexpected)
