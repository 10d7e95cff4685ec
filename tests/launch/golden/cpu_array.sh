#!/bin/bash

# Parameters
#SBATCH --array=0-12%4
#SBATCH --comment=msm-0123456789abcdef
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
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=60

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 1 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
export OMP_NUM_THREADS=1
export MSM_RANK_MB=4096
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
each=(eval/0000000000000000 eval/0000000000000001 eval/0000000000000002 eval/0000000000000003 eval/0000000000000004 eval/0000000000000005 eval/0000000000000006 eval/0000000000000007 eval/0000000000000008 eval/0000000000000009 eval/000000000000000a eval/000000000000000b eval/000000000000000c)

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=1 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps '/shared/my runs' "${each[SLURM_ARRAY_TASK_ID]}"
