"""The gate at the end of an export: what was written is the model of the checkpoint, before anything evaluates it.

Three things are compared, and none takes memory or time that grows with the model beyond its widest layer:

1. **Names and shapes.** The model that transformers builds from ``config.json`` has the weights that were written, no
   more and no fewer.
2. **Numbers.** Some values of each tensor, kept while it was written, are read again through the safetensors library.
   (All of them would mean reading 64 GB once more; a file that is damaged later is found by its hash.)
3. **Logits.** Transformers computes the first layers of the exported model. The model step did so with the *given*
   folder, and where nothing was trained since, both must agree; else they must be finite. Layers are alike, so that a
   wrong RoPE, norm, bias or order of heads shows in the first: as many are taken as fit into :data:`MEMORY`, at least
   one, and the first rows of the vocabulary. Of a model of 32B that is one layer: 2 GB and 14 CPU-seconds.

Other ids refuse no export. ``AutoTokenizer`` is to make the same ids of a hard sample as the given ``tokenizer.json``;
where it does not, or cannot open it, the export names the plain tokenizer class, and where that does not help, a
notice says so, in the report too. A tokenizer that it cannot open at all is refused.

Of an adapter, names, shapes and numbers are compared.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from msm_hpc.base.errors import DivergedError, UserError
from msm_hpc.base.files import read_json, write_json
from msm_hpc.base.notices import write_notices
from msm_hpc.conversion.description import FAST_CLASS, LOGITS
from msm_hpc.conversion.tokenizer import FIX, open_tokenizer
from msm_hpc.conversion.weights import StoredWeights
from msm_hpc.model.adapter import PEFT_WEIGHTS
from msm_hpc.model.architecture import Transformer, read_object
from tokenization.engines.hard_sample import hard_sample
from tokenization.tokenizer import CONFIG, TOKENIZER, TokenizerFolder

MEMORY = 256 << 20
"""Bytes of the layers that are computed, in float32; one layer is taken where it is larger."""
VOCABULARY = 256
POSITIONS = 64
SAMPLED = 64
_TOLERANCE = 1e-3  # of the largest logit: other CPUs add up in another order

log = logging.getLogger(__name__)


class Samples:
    """Keeps some values of each weight that passes through."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def of(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """The same ``weights``."""
        for name, weight in weights:
            self._kept[name] = _sample(weight).clone()
            yield name, weight

    def check(self, folder: Path, stored: StoredWeights) -> None:
        """Compare them with what was ``stored`` in ``folder``."""
        for name, kept in self._kept.items():
            if not torch.equal(_sample(stored[name]), kept):
                raise _refusal(folder, f"{name} has other values than were written")


def write_logits(folder: Path, weights: Mapping[str, Tensor], architecture: Transformer, out: Path) -> None:
    """Keep what the given model, described in ``folder``, computes."""
    write_json(out / LOGITS, first_logits(folder, weights, architecture).tolist())


def check_export(out: Path, model: Path, architecture: Transformer, samples: Samples, untouched: bool) -> None:
    """Check what an export wrote into ``out`` against the output ``model`` of the model step.

    Args:
        out: the export.
        model: which it describes.
        architecture: of both.
        samples: of the weights that were written.
        untouched: nothing was trained since the model step, nor rounded.

    Raises:
        UserError: it is another model.
    """
    write_notices(out, _check_tokenizer(out, model))
    stored = StoredWeights(out)
    _check_names(out, stored)
    samples.check(out, stored)
    logits = first_logits(out, stored, architecture)
    if not logits.isfinite().all():
        raise DivergedError(f"{out}: the exported model computes logits that are not finite: the training diverged")
    if untouched:
        given = torch.tensor(read_json(model / LOGITS))
        if (logits - given).abs().max() > _TOLERANCE * given.abs().max():
            raise _refusal(out, f"logits differ from the given folder's by {(logits - given).abs().max():.3g}")


def check_adapter(out: Path, shapes: Mapping[str, tuple[int, ...]], samples: Samples) -> None:
    """Check that PEFT's file in ``out`` has the tensors of ``shapes``, with the values of ``samples``.

    Raises:
        UserError: it has others.
    """
    stored = StoredWeights(out, PEFT_WEIGHTS)
    _compare(out, set(shapes.items()), stored)
    samples.check(out, stored)


def first_logits(folder: Path, weights: Mapping[str, Tensor], architecture: Transformer) -> Tensor:
    """[VOCABULARY]: the last logits of a fixed text, as transformers computes the first layers, in float32."""
    config = _configuration(folder)
    layer = architecture.layer_parameters * torch.float32.itemsize
    config.num_hidden_layers = max(1, min(config.num_hidden_layers, MEMORY // layer))
    config.vocab_size = min(VOCABULARY, config.vocab_size)
    config.pad_token_id = None  # it may lie beyond the short vocabulary
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    build: Any = AutoModelForCausalLM.from_config
    with torch.random.fork_rng(devices=()):
        model = build(config, dtype=torch.float32).eval()
    positions = min(POSITIONS, architecture.shape.max_position_embeddings)
    tokens = torch.tensor([[(3 + 7 * place * place) % config.vocab_size for place in range(positions)]])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name][: len(parameter)])
        logits: Tensor = model(tokens).logits[0, -1]
    return logits


def _configuration(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}/config.json: transformers {transformers.__version__} refuses it: {error}") from error


def _check_names(out: Path, stored: StoredWeights) -> None:
    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        model = build(_configuration(out))
    _compare(out, {(name, tuple(parameter.shape)) for name, parameter in model.named_parameters()}, stored)


def _compare(out: Path, expected: set[tuple[str, tuple[int, ...]]], stored: StoredWeights) -> None:
    found = {(name, tensor.shape) for name, tensor in stored.table.items()}
    if wrong := expected ^ found:
        raise _refusal(out, f"weights that are missing, too many or of another shape: {sorted(wrong)}")


def _check_tokenizer(out: Path, model: Path) -> Sequence[str]:
    """Where transformers would build another tokenizer by the class that is named, the export names the plain one.

    Returns:
        What to say where it builds another one all the same.

    Raises:
        UserError: it cannot open the tokenizer.
    """
    with suppress(UserError):  # the plain class may open what the named one does not
        if _same_ids(out, model):
            return ()
    write_json(out / CONFIG, {**read_object(out / CONFIG), "tokenizer_class": FAST_CLASS})
    if _same_ids(out, model):
        return ()
    notice = (
        f"AutoTokenizer of transformers {transformers.__version__} makes other ids of the exports than their "
        f"{TOKENIZER}, which was trained with: whatever the files say, it builds Qwen2's tokenizer for a "
        f"Qwen2. Evaluations of ours go by {TOKENIZER}; elsewhere, open it with {FAST_CLASS}.from_pretrained."
    )
    log.warning("%s: %s", out, notice)
    return (notice,)


def _same_ids(out: Path, model: Path) -> bool:
    given = TokenizerFolder(model)
    texts = hard_sample(list(given.special))
    expected = given.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    opened = open_tokenizer(out, FIX)
    found: Any = opened(texts, add_special_tokens=False)["input_ids"]
    return bool(found == [encoding.ids for encoding in expected])


def _sample(weight: Tensor) -> Tensor:
    return weight.flatten()[:: math.ceil(weight.numel() / SAMPLED)]


def _refusal(out: Path, what: str) -> UserError:
    return UserError(
        f"{out}: transformers {transformers.__version__} reads another model there than was trained: {what}. Nothing "
        "is evaluated with it; this is a fault of the export, please report it"
    )
