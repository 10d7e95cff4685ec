"""Campaigns: run here or on Slurm, inside a job, rehearsed, and asked about."""
