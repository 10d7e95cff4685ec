#### a CPU array
#!/bin/bash

# Parameters
#SBATCH --account=a123
#SBATCH --array=0-1%2
#SBATCH --cpus-per-task=72
#SBATCH --dependency='afterok:{generate}'
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --exclusive
#SBATCH --job-name=msm-demo-tokenize
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=450560MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=normal
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=120
#SBATCH --uenv=prgenv-gnu/24.11:v1
#SBATCH --view=default

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 4 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
export NCCL_NET='AWS Libfabric'
export NCCL_SOCKET_IFNAME=hsn
export NCCL_NET_GDR_LEVEL=PHB
export NCCL_CROSS_NIC=1
export FI_CXI_DISABLE_HOST_REGISTER=1
export FI_CXI_DEFAULT_CQ_SIZE=131072
export FI_MR_CACHE_MONITOR=userfaultfd
export OMP_NUM_THREADS=72
export MSM_RANK_MB=112640
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
[[ $(find /shared/runs/code/USER-CODE -maxdepth 0 -type d -user "$UID" ! -perm /022) ]] || { echo '/shared/runs/code/USER-CODE is gone or not yours: run `msm run` again' >&2; exit 1; }
export PYTHONPATH=/shared/runs/code/USER-CODE${PYTHONPATH:+:$PYTHONPATH}
each=('tokenize/IDENTITY | tokenize/IDENTITY | tokenize/IDENTITY | tokenize/IDENTITY' tokenize/IDENTITY)
export MSM_SEVERAL_STEPS=1

# command
export SUBMITIT_EXECUTOR=slurm
lane() {
  srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=72 --wait=0 --exact --nodes=1 --ntasks=1 --ntasks-per-node=1 --mem=112640MB PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps /shared/runs "$@"
}
IFS='|' read -ra lanes <<<"${each[SLURM_ARRAY_TASK_ID]}"
for number in "${!lanes[@]}"; do
  MSM_LANE=$number lane ${lanes[number]} &
  started+=($!)
done
made=false
for one in "${started[@]}"; do wait "$one" && made=true; done
if [[ -e /shared/runs/jobs/.stopped.$MSM_RUN ]] || ls /shared/runs/jobs/.again.$MSM_RUN.* &>/dev/null; then
  srun --unbuffered --kill-on-bad-exit=1 --cpus-per-task=72 --wait=0 --exact --nodes=1 --ntasks=1 --ntasks-per-node=1 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.launch.slurm_requeue:requeue_if_asked
  exit 1
fi
$made


#### a training array
#!/bin/bash

# Parameters
#SBATCH --account=a123
#SBATCH --array=0-1%2
#SBATCH --cpus-per-task=72
#SBATCH --dependency='afterok:{pack},afterok:{midtrain}'
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --job-name=msm-demo-aft
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=450560MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=normal
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=720
#SBATCH --uenv=prgenv-gnu/24.11:v1
#SBATCH --view=default

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 4 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
export NCCL_NET='AWS Libfabric'
export NCCL_SOCKET_IFNAME=hsn
export NCCL_NET_GDR_LEVEL=PHB
export NCCL_CROSS_NIC=1
export FI_CXI_DISABLE_HOST_REGISTER=1
export FI_CXI_DEFAULT_CQ_SIZE=131072
export FI_MR_CACHE_MONITOR=userfaultfd
export OMP_NUM_THREADS=72
export MSM_RANK_MB=112640
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
[[ $(find /shared/runs/code/USER-CODE -maxdepth 0 -type d -user "$UID" ! -perm /022) ]] || { echo '/shared/runs/code/USER-CODE is gone or not yours: run `msm run` again' >&2; exit 1; }
export PYTHONPATH=/shared/runs/code/USER-CODE${PYTHONPATH:+:$PYTHONPATH}
SUBMITIT_EXECUTOR=slurm srun --unbuffered --kill-on-bad-exit=1 --cpus-per-task=72 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.node_gate:check_nodes /shared/runs || exit 1
each=(train/IDENTITY train/IDENTITY)

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=72 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps /shared/runs "${each[SLURM_ARRAY_TASK_ID]}"


#### an eval array
#!/bin/bash

# Parameters
#SBATCH --account=a123
#SBATCH --cpus-per-task=72
#SBATCH --dependency='afterok:{generate}_1,afterok:{aft}'
#SBATCH --error=/shared/runs/jobs/%j_0_log.err
#SBATCH --exclusive
#SBATCH --gpus-per-node=2
#SBATCH --job-name=msm-demo-export
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=225280MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%j_0_log.out
#SBATCH --partition=normal
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=120
#SBATCH --uenv=prgenv-gnu/24.11:v1
#SBATCH --view=default

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 4 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
export NCCL_NET='AWS Libfabric'
export NCCL_SOCKET_IFNAME=hsn
export NCCL_NET_GDR_LEVEL=PHB
export NCCL_CROSS_NIC=1
export FI_CXI_DISABLE_HOST_REGISTER=1
export FI_CXI_DEFAULT_CQ_SIZE=131072
export FI_MR_CACHE_MONITOR=userfaultfd
export OMP_NUM_THREADS=72
export MSM_RANK_MB=112640
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
[[ $(find /shared/runs/code/USER-CODE -maxdepth 0 -type d -user "$UID" ! -perm /022) ]] || { echo '/shared/runs/code/USER-CODE is gone or not yours: run `msm run` again' >&2; exit 1; }
export PYTHONPATH=/shared/runs/code/USER-CODE${PYTHONPATH:+:$PYTHONPATH}
export MSM_SEVERAL_STEPS=1

# command
export SUBMITIT_EXECUTOR=slurm
lane() {
  srun --unbuffered --output /shared/runs/jobs/%j_%t_log.out --error /shared/runs/jobs/%j_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=72 --wait=0 --exact --nodes=1 --ntasks=1 --ntasks-per-node=1 --gpus-per-node=1 --mem=112640MB PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps /shared/runs "$@"
}
IFS='|' read -ra lanes <<<'export/IDENTITY eval/IDENTITY | export/IDENTITY eval/IDENTITY'
for number in "${!lanes[@]}"; do
  MSM_LANE=$number lane ${lanes[number]} &
  started+=($!)
done
made=false
for one in "${started[@]}"; do wait "$one" && made=true; done
if [[ -e /shared/runs/jobs/.stopped.$MSM_RUN ]] || ls /shared/runs/jobs/.again.$MSM_RUN.* &>/dev/null; then
  srun --unbuffered --kill-on-bad-exit=1 --cpus-per-task=72 --wait=0 --exact --nodes=1 --ntasks=1 --ntasks-per-node=1 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.launch.slurm_requeue:requeue_if_asked
  exit 1
fi
$made
