"""Where jobs run: on this machine or on Slurm, both through submitit; and which jobs are still alive."""
