"""What most steps import, imported: :mod:`msm_hpc.launch.forked` loads this once for all jobs of a run.

With a PyTorch for GPUs it stops there: Megatron asks for the GPUs, and a process that has asked cannot be forked.
"""

# ruff: noqa: F401
import gc

import torch

if torch.version.cuda is None:
    import tensorboardX
    import transformers.generation
    import transformers.modeling_utils

    import msm_hpc.conversion.stage
    import msm_hpc.corpus.stage
    import msm_hpc.evals.stage
    import msm_hpc.training.stage
    import tokenization.chats.encoder
    import tokenization.packing.pack
    import tokenization.tokenize
    from msm_hpc.training.megatron import cpu

    with cpu.redirected():
        import msm_hpc.training.callbacks
        import msm_hpc.training.checkpoints.start
        import msm_hpc.training.megatron.model
        import msm_hpc.training.megatron.optimizer
        import msm_hpc.training.record.tensorboard
        import msm_hpc.training.trainer

# The garbage collector of a job leaves all of it alone: to look through it, as Megatron has it do at each checkpoint,
# would take longer than a small step trains, and copy the memory that jobs share.
gc.collect()
gc.freeze()
