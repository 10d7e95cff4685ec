#!/bin/bash

# Parameters
#SBATCH --account=alignment
#SBATCH --array=0-1%2
#SBATCH --comment=msm-0123456789abcdef
#SBATCH --cpus-per-task=8
#SBATCH --dependency=afterany:64
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --exclusive
#SBATCH --gpus-per-node=2
#SBATCH --job-name=msm-aft
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=122880MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=h100
#SBATCH --qos=normal
#SBATCH --requeue
#SBATCH --reservation=night
#SBATCH --signal=USR2@90
#SBATCH --time=150

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 8 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
module load cuda/13
export OMP_NUM_THREADS=8
export MSM_RANK_MB=61440
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
[[ $(find '/shared/my runs/code/ada-0123456789abcdef' -maxdepth 0 -type d -user "$UID" ! -perm /022) ]] || { echo '/shared/my runs/code/ada-0123456789abcdef is gone or not yours: run `msm run` again' >&2; exit 1; }
export PYTHONPATH='/shared/my runs/code/ada-0123456789abcdef'${PYTHONPATH:+:$PYTHONPATH}
each=('train/0000000000000000 export/0000000000000000 eval/0000000000000000 | train/0000000000000001 export/0000000000000001 eval/0000000000000001' 'train/0000000000000002 export/0000000000000002 eval/0000000000000002')
export MSM_SEVERAL_STEPS=1

# command
export SUBMITIT_EXECUTOR=slurm
lane() {
  srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=8 --wait=0 --exact --nodes=1 --ntasks=1 --ntasks-per-node=1 --gpus-per-node=1 --mem=61440MB PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps '/shared/my runs' "$@"
}
IFS='|' read -ra lanes <<<"${each[SLURM_ARRAY_TASK_ID]}"
for number in "${!lanes[@]}"; do
  MSM_LANE=$number lane ${lanes[number]} &
  started+=($!)
done
made=false
for one in "${started[@]}"; do wait "$one" && made=true; done
if [[ -e /shared/runs/jobs/.stopped.$MSM_RUN ]] || ls /shared/runs/jobs/.again.$MSM_RUN.* &>/dev/null; then
  srun --unbuffered --kill-on-bad-exit=1 --cpus-per-task=8 --wait=0 --exact --nodes=1 --ntasks=1 --ntasks-per-node=1 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.launch.slurm_requeue:requeue_if_asked
  exit 1
fi
$made
