#!/bin/bash

# Parameters
#SBATCH --account=alignment
#SBATCH --array=0-2%3
#SBATCH --comment=msm-0123456789abcdef
#SBATCH --cpus-per-task=8
#SBATCH --dependency=afterany:64
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --gpus-per-node=1
#SBATCH --job-name=msm-aft
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=61440MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=h100
#SBATCH --qos=normal
#SBATCH --requeue
#SBATCH --reservation=night
#SBATCH --signal=USR2@90
#SBATCH --time=150

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 1 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
module load cuda/13
export OMP_NUM_THREADS=8
export MSM_RANK_MB=61440
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
[[ $(find '/shared/my runs/code/ada-0123456789abcdef' -maxdepth 0 -type d -user "$UID" ! -perm /022) ]] || { echo '/shared/my runs/code/ada-0123456789abcdef is gone or not yours: run `msm run` again' >&2; exit 1; }
export PYTHONPATH='/shared/my runs/code/ada-0123456789abcdef'${PYTHONPATH:+:$PYTHONPATH}
each=('train/0000000000000000 export/0000000000000000 eval/0000000000000000' 'train/0000000000000001 export/0000000000000001 eval/0000000000000001' 'train/0000000000000002 export/0000000000000002 eval/0000000000000002')
export MSM_SEVERAL_STEPS=1

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=8 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps '/shared/my runs' ${each[SLURM_ARRAY_TASK_ID]}
