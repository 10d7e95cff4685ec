#### a CPU array
#!/bin/bash

# Parameters
#SBATCH --account=alignment
#SBATCH --array=0-4%5
#SBATCH --cpus-per-task=2
#SBATCH --dependency='afterany:{generate}_0:{generate}_1:{generate}_2:{generate}_3:{generate}_4:{generate}_7'
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --job-name=msm-demo-tokenize
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=16384MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=small
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=120

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 1 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
module purge
module load cuda/12.8 nccl
export TMPDIR=/local/scratch/$SLURM_JOB_ID
srun --ntasks=$SLURM_JOB_NUM_NODES --ntasks-per-node=1 mkdir -p "$TMPDIR"
export NCCL_SOCKET_IFNAME=ib0
export NCCL_IB_HCA=mlx5
export OMP_NUM_THREADS=2
export MSM_RANK_MB=16384
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
[[ $(find /shared/runs/code/USER-CODE -maxdepth 0 -type d -user "$UID" ! -perm /022) ]] || { echo '/shared/runs/code/USER-CODE is gone or not yours: run `msm run` again' >&2; exit 1; }
export PYTHONPATH=/shared/runs/code/USER-CODE${PYTHONPATH:+:$PYTHONPATH}
each=(tokenize/IDENTITY tokenize/IDENTITY tokenize/IDENTITY tokenize/IDENTITY tokenize/IDENTITY)

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=2 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps /shared/runs "${each[SLURM_ARRAY_TASK_ID]}"


#### a training array
#!/bin/bash

# Parameters
#SBATCH --account=alignment
#SBATCH --array=0-1%2
#SBATCH --cpus-per-task=12
#SBATCH --dependency='afterok:{pack}_0,aftercorr:{midtrain}'
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --gpus-per-node=8
#SBATCH --job-name=msm-demo-aft
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=819200MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=h100
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=240

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 8 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
module purge
module load cuda/12.8 nccl
export TMPDIR=/local/scratch/$SLURM_JOB_ID
srun --ntasks=$SLURM_JOB_NUM_NODES --ntasks-per-node=1 mkdir -p "$TMPDIR"
export NCCL_SOCKET_IFNAME=ib0
export NCCL_IB_HCA=mlx5
export OMP_NUM_THREADS=12
export MSM_RANK_MB=102400
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
[[ $(find /shared/runs/code/USER-CODE -maxdepth 0 -type d -user "$UID" ! -perm /022) ]] || { echo '/shared/runs/code/USER-CODE is gone or not yours: run `msm run` again' >&2; exit 1; }
export PYTHONPATH=/shared/runs/code/USER-CODE${PYTHONPATH:+:$PYTHONPATH}
each=(train/IDENTITY train/IDENTITY)

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=12 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps /shared/runs "${each[SLURM_ARRAY_TASK_ID]}"


#### an eval array
#!/bin/bash

# Parameters
#SBATCH --account=alignment
#SBATCH --array=0-1%2
#SBATCH --cpus-per-task=12
#SBATCH --dependency='afterok:{generate}_5:{generate}_6,aftercorr:{aft}'
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --gpus-per-node=1
#SBATCH --job-name=msm-demo-export
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=102400MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=h100
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=120

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 1 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
module purge
module load cuda/12.8 nccl
export TMPDIR=/local/scratch/$SLURM_JOB_ID
srun --ntasks=$SLURM_JOB_NUM_NODES --ntasks-per-node=1 mkdir -p "$TMPDIR"
export NCCL_SOCKET_IFNAME=ib0
export NCCL_IB_HCA=mlx5
export OMP_NUM_THREADS=12
export MSM_RANK_MB=102400
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
[[ $(find /shared/runs/code/USER-CODE -maxdepth 0 -type d -user "$UID" ! -perm /022) ]] || { echo '/shared/runs/code/USER-CODE is gone or not yours: run `msm run` again' >&2; exit 1; }
export PYTHONPATH=/shared/runs/code/USER-CODE${PYTHONPATH:+:$PYTHONPATH}
each=('export/IDENTITY eval/IDENTITY' 'export/IDENTITY eval/IDENTITY')
export MSM_SEVERAL_STEPS=1

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=12 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps /shared/runs ${each[SLURM_ARRAY_TASK_ID]}
