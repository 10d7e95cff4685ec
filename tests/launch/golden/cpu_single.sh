#!/bin/bash

# Parameters
#SBATCH --comment=msm-0123456789abcdef
#SBATCH --cpus-per-task=1
#SBATCH --dependency=afterany:64
#SBATCH --error=/shared/runs/jobs/%j_0_log.err
#SBATCH --job-name=msm-report
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=4096MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%j_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=60

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 1 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
export OMP_NUM_THREADS=1
export MSM_RANK_MB=4096
export MSM_RUN=$(</proc/sys/kernel/random/uuid)

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%j_%t_log.out --error /shared/runs/jobs/%j_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=1 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps '/shared/my runs' report/0123456789abcdef
