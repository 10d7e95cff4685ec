"""What steps that ask models and judges import, beside :mod:`msm_hpc.launch.preloaded`."""

# ruff: noqa: F401
import msm_hpc.endpoint.engine
import msm_hpc.evals.reasoning.search
import msm_hpc.evals.sampling
import msm_hpc.evals.scoring
import msm_hpc.serving.in_process
