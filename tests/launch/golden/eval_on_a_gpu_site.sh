#!/bin/bash

# Parameters
#SBATCH --account=alignment
#SBATCH --array=0-12%13
#SBATCH --constraint=nvlink
#SBATCH --cpus-per-task=8
#SBATCH --dependency=aftercorr:64,afterok:60_0:60_3
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --gpus-per-node=1
#SBATCH --job-name=msm-eval
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=61440MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=h100
#SBATCH --qos=normal
#SBATCH --reservation=night
#SBATCH --signal=USR2@90
#SBATCH --time=60

# setup
module load cuda/13
export OMP_NUM_THREADS=8

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=8 --wait=0 PYTHON -u -m submitit.core._submit /shared/runs/jobs
