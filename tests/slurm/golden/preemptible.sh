#### a CPU array
#!/bin/bash

# Parameters
#SBATCH --array=0-4%5
#SBATCH --cpus-per-task=2
#SBATCH --dependency='afterany:{generate}_0:{generate}_1:{generate}_2:{generate}_3:{generate}_4:{generate}_7'
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --job-name=msm-demo-tokenize
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=8192MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=shared
#SBATCH --qos=normal
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=60

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 1 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
export OMP_NUM_THREADS=2
export MSM_RANK_MB=8192
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
#SBATCH --array=0-1%2
#SBATCH --constraint=a100
#SBATCH --cpus-per-task=8
#SBATCH --dependency='afterok:{pack}_0,aftercorr:{midtrain}'
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --gpus-per-node=8
#SBATCH --job-name=msm-demo-aft
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=491520MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=shared
#SBATCH --qos=scavenger
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=360

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 8 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
export OMP_NUM_THREADS=8
export MSM_RANK_MB=61440
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
[[ $(find /shared/runs/code/USER-CODE -maxdepth 0 -type d -user "$UID" ! -perm /022) ]] || { echo '/shared/runs/code/USER-CODE is gone or not yours: run `msm run` again' >&2; exit 1; }
export PYTHONPATH=/shared/runs/code/USER-CODE${PYTHONPATH:+:$PYTHONPATH}
each=(train/IDENTITY train/IDENTITY)

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=8 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps /shared/runs "${each[SLURM_ARRAY_TASK_ID]}"


#### an eval array
#!/bin/bash

# Parameters
#SBATCH --array=0-1%2
#SBATCH --constraint=a100
#SBATCH --cpus-per-task=8
#SBATCH --dependency='afterok:{generate}_5:{generate}_6,aftercorr:{aft}'
#SBATCH --error=/shared/runs/jobs/%A_%a_0_log.err
#SBATCH --gpus-per-node=1
#SBATCH --job-name=msm-demo-export
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=61440MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/jobs/%A_%a_0_log.out
#SBATCH --partition=shared
#SBATCH --qos=scavenger
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=60

# setup
export MSM_ALLOCATION="${SLURM_JOB_START_TIME:-$EPOCHSECONDS} 1 $((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
export OMP_NUM_THREADS=8
export MSM_RANK_MB=61440
export MSM_RUN=$(</proc/sys/kernel/random/uuid)
[[ $(find /shared/runs/code/USER-CODE -maxdepth 0 -type d -user "$UID" ! -perm /022) ]] || { echo '/shared/runs/code/USER-CODE is gone or not yours: run `msm run` again' >&2; exit 1; }
export PYTHONPATH=/shared/runs/code/USER-CODE${PYTHONPATH:+:$PYTHONPATH}
each=('export/IDENTITY eval/IDENTITY' 'export/IDENTITY eval/IDENTITY')
export MSM_SEVERAL_STEPS=1

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/runs/jobs/%A_%a_%t_log.out --error /shared/runs/jobs/%A_%a_%t_log.err --kill-on-bad-exit=1 --cpus-per-task=8 --wait=0 PYTHON -u -P -m msm_hpc.launch.entry /shared/runs/jobs msm_hpc.campaign.runner:run_steps /shared/runs ${each[SLURM_ARRAY_TASK_ID]}
