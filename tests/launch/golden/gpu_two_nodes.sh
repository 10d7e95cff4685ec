#!/bin/bash

# Parameters
#SBATCH --account=alignment
#SBATCH --array=0-3%4
#SBATCH --comment=msm-0123456789abcdef
#SBATCH --cpus-per-task=8
#SBATCH --dependency=afterok:64
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --gpus-per-node=8
#SBATCH --job-name=msm-midtrain
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=491520MB
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=h100
#SBATCH --qos=normal
#SBATCH --requeue
#SBATCH --reservation=night
#SBATCH --signal=USR2@90
#SBATCH --time=720

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 16 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
module load cuda/13
export OMP_NUM_THREADS=8
export MSM_RANK_MB=61440
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
each=(eval/0000000000000000 eval/0000000000000001 eval/0000000000000002 eval/0000000000000003)

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=8 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps '/shared/my runs' "${each[SLURM_ARRAY_TASK_ID]}"
