#### a CPU array
#!/bin/bash

# Parameters
#SBATCH --account=a123
#SBATCH --array=0-4%5
#SBATCH --cpus-per-task=72
#SBATCH --dependency='afterany:{generate}_0:{generate}_1:{generate}_2:{generate}_3:{generate}_4:{generate}_7'
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --exclusive
#SBATCH --job-name=msm-demo-tokenize
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=204800MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=normal
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=120
#SBATCH --uenv=prgenv-gnu/24.11:v1
#SBATCH --view=default

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 1 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
export NCCL_NET='AWS Libfabric'
export NCCL_SOCKET_IFNAME=hsn
export NCCL_NET_GDR_LEVEL=PHB
export NCCL_CROSS_NIC=1
export FI_CXI_DISABLE_HOST_REGISTER=1
export FI_CXI_DEFAULT_CQ_SIZE=131072
export FI_MR_CACHE_MONITOR=userfaultfd
export OMP_NUM_THREADS=72
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
[[ -O /shared/runs/code/USER-CODE ]] || { echo '/shared/runs/code/USER-CODE is gone or not yours: run `msm run` again' >&2; exit 1; }
export PYTHONPATH=/shared/runs/code/USER-CODE${PYTHONPATH:+:$PYTHONPATH}
each=(tokenize/IDENTITY tokenize/IDENTITY tokenize/IDENTITY tokenize/IDENTITY tokenize/IDENTITY)

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=72 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps /shared/runs "${each[SLURM_ARRAY_TASK_ID]}"


#### a training array
#!/bin/bash

# Parameters
#SBATCH --account=a123
#SBATCH --array=0-1%2
#SBATCH --cpus-per-task=72
#SBATCH --dependency='afterok:{pack}_0,aftercorr:{midtrain}'
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
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
[[ -O /shared/runs/code/USER-CODE ]] || { echo '/shared/runs/code/USER-CODE is gone or not yours: run `msm run` again' >&2; exit 1; }
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
#SBATCH --array=0-1%2
#SBATCH --cpus-per-task=72
#SBATCH --dependency='afterok:{generate}_5:{generate}_6,aftercorr:{aft}'
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --exclusive
#SBATCH --gpus-per-node=1
#SBATCH --job-name=msm-demo-export
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=204800MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=normal
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=120
#SBATCH --uenv=prgenv-gnu/24.11:v1
#SBATCH --view=default

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 1 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
export NCCL_NET='AWS Libfabric'
export NCCL_SOCKET_IFNAME=hsn
export NCCL_NET_GDR_LEVEL=PHB
export NCCL_CROSS_NIC=1
export FI_CXI_DISABLE_HOST_REGISTER=1
export FI_CXI_DEFAULT_CQ_SIZE=131072
export FI_MR_CACHE_MONITOR=userfaultfd
export OMP_NUM_THREADS=72
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
[[ -O /shared/runs/code/USER-CODE ]] || { echo '/shared/runs/code/USER-CODE is gone or not yours: run `msm run` again' >&2; exit 1; }
export PYTHONPATH=/shared/runs/code/USER-CODE${PYTHONPATH:+:$PYTHONPATH}
each=('export/IDENTITY eval/IDENTITY' 'export/IDENTITY eval/IDENTITY')
export MSM_SEVERAL_STEPS=1

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=72 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps /shared/runs ${each[SLURM_ARRAY_TASK_ID]}
