#!/usr/bin/env bash
# Stop the cluster that start.sh started in STATE, with its jobs, and remove STATE.
#   STATE=/tmp/msm-slurm    KEEP=1 keeps the folder, for its logs
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

no_job_runs() { [[ -z $(timeout 3 squeue --noheader --states=running,completing,suspended) ]]; }

# Ask Slurm first: only it knows the whole process tree of a job. Pending jobs go first, or they would start.
cancel_jobs() {
  timeout 3 squeue --noheader 2>/dev/null | grep -q . || return 0
  timeout 3 scancel --state=PENDING --partition=main || true
  timeout 3 scancel --full --signal=KILL --partition=main || true
  within 3 no_job_runs || true
}

# The cluster is thrown away, so its daemons need no time to tidy up.
kill_daemons() {
  local name pid started
  while read -r name pid started; do
    ! is_alive "$pid" "$started" || kill -KILL "$pid"
  done <"$STATE/processes"
  while read -r name pid started; do
    within 5 not is_alive "$pid" "$started" || die "$name, process $pid, does not end"
  done <"$STATE/processes"
}

not() { ! "$@"; }

# A killed slurmd leaves its slurmstepd behind, and that its job. Both name our slurm.conf in their environment.
orphans() {
  local file
  grep --files-with-matches --null-data --line-regexp --fixed-strings "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ |
    while read -r file; do
      if grep -qx slurmstepd "${file%environ}comm" || grep --null-data -q '^SLURM_JOB_ID=' "$file"; then
        cut -d/ -f3 <<<"$file"
      fi
    done
}

no_orphan_is_left() {
  local found
  mapfile -t found < <(orphans)
  ((${#found[@]} == 0)) || { kill -KILL "${found[@]}"; return 1; }
}

main() {
  [[ -e $STATE/processes ]] || { echo "stop.sh: no cluster in $STATE"; return; }
  cancel_jobs
  kill_daemons
  within 5 no_orphan_is_left || die "processes of the jobs do not end: $(orphans | xargs)"
  rm "$STATE/processes"
  [[ ! -d $STATE/small ]] || umount "$STATE/small"
  [[ -n ${KEEP:-} ]] || rm -rf "$STATE"
}

main
