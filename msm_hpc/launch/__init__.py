"""Where jobs run: this machine or Slurm, both through submitit; and whether a job still lives."""
