"""Model Spec Midtraining as Slurm campaigns: from a spec to a table of results."""

__version__ = "0.1.0"
