"""Memory of one rank by formula, before anything runs.

Four parts grow with the model and shrink with the layout (bytes a weight on a rank, ``d`` = data x context parallel)::

               weights   gradients   optimizer      bf16: 2 + 4 + 12/d        fp32: 4 + 4 + 8/d

Gradients are kept in float32, and each of ``d`` ranks updates its share of the float32 weights and the two moments of
AdamW (megatron-core ``distributed/param_and_grad_buffer.py``, ``optimizer/distrib_optimizer.py``). The fourth, the
activations kept for the backward pass, grows with the tokens of a micro-batch instead, and with the micro-batches in
flight: under the 1F1B schedule the first of ``p`` stages holds ``p`` of them, the last one holds one. Take Llama-3.1-8B
at 8,192 tokens on one H100: 16 + 32 GB of weights and gradients, 96 GB of optimizer: it cannot fit, however small the
micro-batch. On eight, with 12 GB of optimizer each, it does not fit either, until tensor parallelism halves the rest.

The terms follow Korthikanti et al. (arXiv 2205.05198, section 4), without dropout and with attention that stores no
scores (Dao et al., arXiv 2205.14135), tensor by tensor as our layers store them. With recomputation (their section 5)
only the input of each layer is kept, or all but the MLP's activations; those of one layer are then there while its
backward pass runs. Tests compare the sums with what Megatron allocates on the CPU. The terms of a GPU (Transformer
Engine's norms and attention) are from its sources and have not been measured.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from msm_hpc.config.training import Layout, TrainConfig
from msm_hpc.model.adapter import projections
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.precision import RECIPES

GIB = 2**30
FIXED_GPU = 3 * GIB
"""CUDA context, cuBLAS and Transformer Engine workspaces, NCCL's buffers, fragments: an assumption, not measured."""
FIXED_CPU = int(0.9 * GIB)
"""Resident size of a rank that has imported torch and Megatron, without a model: 0.8 to 0.9 GiB seen on x86-64."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank of one pipeline stage.

    ``working`` is the peak of what lives for a moment only: logits and loss, or the gradients of activations and of one
    weight.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    working: int
    fixed: int

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return sum(getattr(self, item.name) for item in fields(self))

    def __str__(self) -> str:
        """For messages: every part in GiB."""
        parts = ", ".join(f"{item.name} {getattr(self, item.name) / GIB:.1f}" for item in fields(self))
        return f"{self.total / GIB:.1f} GiB a rank ({parts})"


def worst_stage(config: TrainConfig, model: Transformer, on_gpu: bool) -> Memory:
    """The memory of the pipeline stage that needs most."""
    return max(stages(config, model, on_gpu), key=lambda memory: memory.total)


def stages(config: TrainConfig, model: Transformer, on_gpu: bool) -> tuple[Memory, ...]:
    """The memory of a rank of each pipeline stage, first to last."""
    return tuple(_Stage(config, model, on_gpu, number).memory() for number in range(config.layout.pipeline_parallel))


@dataclass(frozen=True)
class _Stage:
    config: TrainConfig
    model: Transformer
    on_gpu: bool
    number: int

    @property
    def layout(self) -> Layout:
        return self.config.layout

    @property
    def last(self) -> bool:
        return self.number == self.layout.pipeline_parallel - 1

    @property
    def size(self) -> int:
        """Bytes of a weight and of an activation."""
        return 4 if self.config.precision == "fp32" else 2

    @property
    def tokens(self) -> int:
        """Tokens of one micro-batch on one rank."""
        return self.config.micro_batch_size * self.config.sequence_length // self.layout.context_parallel

    @property
    def layers(self) -> int:
        return self.model.shape.num_hidden_layers // self.layout.pipeline_parallel

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding, and columns of the logits, on a rank."""
        return self.model.padded_vocab_size // self.layout.tensor_parallel

    def memory(self) -> Memory:
        in_layers, outside = self.layers * self._layer_weights(), self._weights_outside()
        adapter = self.layers * self._adapter_weights()
        weights = in_layers + outside + adapter
        trained = weights if self.config.lora is None else adapter
        state = 8 if self.size == 4 else 12
        optimizer = state * trained // (self.layout.data_parallel * self.layout.context_parallel)
        activations = self._in_flight() + (self.tokens * self._norm() if self.last else 0)
        fp8_copies = 2 * in_layers if self.on_gpu and RECIPES[self.config.precision].quantised else 0
        return Memory(
            weights=weights * self.size + fp8_copies,
            gradients=4 * trained,
            optimizer=optimizer,
            activations=activations,
            working=max(self.tokens * self._recomputed() + self._backward_of_a_layer(), self._head()),
            fixed=FIXED_GPU if self.on_gpu else FIXED_CPU,
        )

    # -- weights -------------------------------------------------------------------------------------

    def _layer_weights(self) -> int:
        """Weights of a layer on one rank; norms are on all."""
        model, shape, width = self.model, self.model.shape, self.model.shape.hidden_size
        rows = model.query_rows + 2 * model.key_rows
        split = (rows + model.query_rows) * width + 3 * width * shape.intermediate_size
        split += rows if model.qkv_bias else 0
        return split // self.layout.tensor_parallel + 2 * width + (2 * model.head_dim if model.qk_norm else 0)

    def _adapter_weights(self) -> int:
        """Adapter weights of a layer on one rank: tensor parallelism splits one half of each pair, not the other."""
        if self.config.lora is None:
            return 0
        tensor, found = self.layout.tensor_parallel, projections(self.model)
        whole = sum(each.rows if each.row_parallel else each.columns for each in found)
        cut = sum(each.columns if each.row_parallel else each.rows for each in found)
        return self.config.lora.rank * (whole + cut // tensor)

    def _weights_outside(self) -> int:
        """Embedding, output layer and final norm; a tied embedding is on the first stage and again on the last."""
        width = self.model.shape.hidden_size
        embedding = self.vocabulary * width
        first = embedding if self.number == 0 else 0
        alone = self.layout.pipeline_parallel == 1
        output = 0 if self.model.shape.tie_word_embeddings and alone else embedding
        return first + (output + width if self.last else 0)

    # -- activations, in bytes a token ------------------------------------------------------------------

    def _shared(self, size: int) -> int:
        """Bytes of a token's ``hidden_size`` numbers, which sequence parallelism cuts."""
        return (
            size * self.model.shape.hidden_size // (self.layout.tensor_parallel if self.layout.sequence_parallel else 1)
        )

    def _norm(self) -> int:
        """An RMSNorm and the linear layer behind it: its input and output; torch's on a CPU keeps x/rms(x) as well.

        There all but the output is in float32.
        """
        return self._shared(2 * self.size) if self.on_gpu else self._shared(4 + 4 + self.size)

    def _attention(self) -> int:
        """What attention keeps: queries, keys, values, output, and what RoPE and Qwen3's norms keep before it."""
        model, tensor = self.model, self.layout.tensor_parallel
        query, key = model.query_rows // tensor, model.key_rows // tensor
        if self.on_gpu:
            qk_norm = self.size * (query + 2 * key + query) if model.qk_norm else 0
            return self.size * (2 * query + 2 * key) + qk_norm
        gathered = 2 * key * self.layout.context_parallel
        rope = 4 * self.size * model.head_dim
        reordered = self.size * query  # the output in the order of the row: attention runs by document
        return self.size * (2 * query + gathered) + rope + reordered + (self._cpu_qk_norm() if model.qk_norm else 0)

    def _cpu_qk_norm(self) -> int:
        """Float32 input and normalised input; float32 keys are a view that keeps the whole of qkv alive."""
        query, key = (rows // self.layout.tensor_parallel for rows in (self.model.query_rows, self.model.key_rows))
        return 4 * (2 * query + key) + (4 * (query + 2 * key) if self.size == 4 else 4 * key)

    @property
    def _mlp_tensors(self) -> int:
        """Tensors of the MLP's width that are kept: gate, up and their product; on a CPU silu(gate) too."""
        return 3 if self.on_gpu else 4

    def _mlp(self) -> int:
        return self._mlp_tensors * self.size * self.model.shape.intermediate_size // self.layout.tensor_parallel

    def _adapter(self) -> int:
        """The low-rank activations between the two halves of each adapter pair."""
        return 0 if self.config.lora is None else len(projections(self.model)) * self.config.lora.rank * self.size

    def _in_flight(self) -> int:
        """Bytes of all layers of all micro-batches whose backward pass is still to come."""
        chunks = self.chunks_in_flight()
        layers = chunks * self.layers // self.layout.virtual_pipeline
        return self.tokens * (layers * self._kept() + chunks * self._ends())

    def _whole(self) -> int:
        """All that the backward pass of a layer needs."""
        return 2 * self._norm() + self._attention() + self._mlp() + self._adapter()

    def _kept(self) -> int:
        """What of it is kept: with full recomputation the layer's input, with selective all but the MLP's part."""
        if self.layout.recompute == "full":
            return self._shared(self.size)
        return self._whole() - (self._recomputed() if self.layout.recompute == "selective" else 0)

    def _recomputed(self) -> int:
        """What is computed again in the backward pass of a layer; a fused norm's output is the MLP's."""
        if self.layout.recompute == "selective":
            return self._mlp() + (self._shared(self.size) if self.on_gpu else 0)
        return self._whole() if self.layout.recompute == "full" else 0

    def chunks_in_flight(self) -> int:
        """The most model chunks x micro-batches that wait for their backward pass.

        ``get_pp_rank_microbatches`` in megatron-core ``pipeline_parallel/schedules.py``, and the one being computed.
        """
        stages, chunks = self.layout.pipeline_parallel, self.layout.virtual_pipeline
        behind = stages - self.number - 1
        warmup = behind if chunks == 1 else 2 * behind + (chunks - 1) * stages
        micro_batches = self.config.global_batch_size // (self.config.micro_batch_size * self.layout.data_parallel)
        return min(warmup + 1, micro_batches * chunks)

    def _ends(self) -> int:
        """What a stage received and sent; on a GPU the first is a norm's input, and the second is freed once sent."""
        if self.on_gpu or self.layout.pipeline_parallel == 1:
            return 0
        inside = self.layout.virtual_pipeline > 1  # then every stage has a chunk before it and one after it
        received = self._shared(2) if self.size == 2 and (self.number or inside) else 0
        return received + (self._shared(self.size) if inside or not self.last else 0)

    # -- temporary -------------------------------------------------------------------------------------

    def _backward_of_a_layer(self) -> int:
        """Peak of the backward pass of an MLP beyond what the forward pass has kept."""
        shape = self.model.shape
        columns = shape.intermediate_size // self.layout.tensor_parallel
        kept = columns * self.tokens
        gradient = columns * shape.hidden_size if self.config.lora is None else 0
        # Gradients of fc2's weight; of gate and up, beside the product's; of fc1's weight, MLP tensors freed.
        largest = max(kept + gradient, 2 * kept, 2 * gradient + (2 - self._mlp_tensors) * kept)
        return self.size * largest + self.tokens * self._gradients_between()

    def _gradients_between(self) -> int:
        """Gradients passed between layers; sequence parallelism gathers the input of each again."""
        return self._shared(2 * self.size) + (
            self.size * self.model.shape.hidden_size if self.layout.sequence_parallel else 0
        )

    def _head(self) -> int:
        """Logits with a float32 softmax, in place or beside them; then their gradient and the output layer's."""
        if not self.last:
            return 0
        width = self.model.shape.hidden_size
        gradient = self.vocabulary * width if self.config.lora is None else 0
        forward = (4 if self.size == 4 else 6) * self.tokens * self.vocabulary
        backward = self.size * (self.tokens * (self.vocabulary + width) + gradient)
        return max(forward, backward)
