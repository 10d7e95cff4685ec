"""What benchmarks/conversion.py runs on its own: ``make LAYERS TO``, ``model FROM TO`` or ``export FROM TO``."""

import sys
from pathlib import Path

from msm_hpc.config.stages import ExportConfig, ExportInputs, ModelConfig, ModelInputs
from msm_hpc.conversion import stage
from msm_hpc.corpus.toy_tokenizer import write_tokenizer

what, read, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
out.mkdir(exist_ok=True)
if what == "make":
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        num_hidden_layers=int(read),
        hidden_size=2048,
        intermediate_size=5632,
        num_attention_heads=16,
        num_key_value_heads=8,
        vocab_size=1024,
    )
    LlamaForCausalLM(shape).bfloat16().save_pretrained(out)
    write_tokenizer(out)
elif what == "model":
    stage.run_model(ModelConfig(folder=Path(read)), ModelInputs(weights=Path(read)), out)
else:
    stage.run_export(ExportConfig(dtype="bfloat16"), ExportInputs(model=Path(read), checkpoint=Path(read)), out)
