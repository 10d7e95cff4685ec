#!/bin/bash

# Parameters
#SBATCH --array=0-12%4
#SBATCH --cpus-per-task=1
#SBATCH --dependency=aftercorr:64,afterok:60_0:60_3
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --job-name=msm-eval
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=4096MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --signal=USR2@90
#SBATCH --time=60

# setup
export OMP_NUM_THREADS=1

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=1 --wait=0 PYTHON -u -m submitit.core._submit /shared/runs/jobs
