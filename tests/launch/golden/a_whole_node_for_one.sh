#!/bin/bash

# Parameters
#SBATCH --account=alignment
#SBATCH --comment=msm-0123456789abcdef
#SBATCH --cpus-per-task=8
#SBATCH --dependency=afterany:64
#SBATCH --error=/shared/runs/jobs/%j_0_log.err
#SBATCH --exclusive
#SBATCH --job-name=msm-report
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=61440MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%j_0_log.out
#SBATCH --partition=h100
#SBATCH --qos=normal
#SBATCH --requeue
#SBATCH --reservation=night
#SBATCH --signal=USR2@90
#SBATCH --time=720

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 8 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
module load cuda/13
export OMP_NUM_THREADS=8
export MSM_RANK_MB=61440
export MSM_RUN=$(</proc/sys/kernel/random/uuid)

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%j_%t_log.out --error /shared/runs/jobs/%j_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=8 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps '/shared/my runs' report/0123456789abcdef
