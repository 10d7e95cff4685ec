#!/usr/bin/env bash
# node_check.sh ROOT [--free GB] [--gpus COUNT]: is this node fit to run a step?
#   ROOT         the campaign's shared folder        --free GB     it must have that much room (default 20)
#   --gpus COUNT that many GPUs must answer nvidia-smi (default 0: not asked)
# One line per check. Exit status: 0 fit, 1 unfit (the line says the fix), 2 wrong usage.
# For a job's first line, or a Slurm HealthCheckProgram or Prolog (where status 1 drains the node).
set -euo pipefail
failures=0

usage() { echo "node_check.sh: $1; usage: node_check.sh ROOT [--free GB] [--gpus COUNT]" >&2; exit 2; }
passed() { echo "ok    $1"; }
failed() { echo "FAIL  $1"; failures=$((failures + 1)); }

check_disk() {
  local free
  free=$(df --output=avail --block-size=1G "$root" | tail -n 1 | tr -d ' ')
  if ((free >= min_free)); then passed "disk: $free GB free in $root"; else
    failed "disk: $free GB free in $root, $min_free needed. Fix: remove old campaigns there, or choose another root"
  fi
}

# Makes and reads back a file, and takes the time that the file server gave it: two nodes whose clocks disagree
# see each other's results as older than their inputs.
check_shared_folder() {
  local probe skew
  if ! probe=$(mktemp "$root/.node_check.XXXXXX" 2>/dev/null) || ! echo probe 2>/dev/null >"$probe" || [[ $(<"$probe") != probe ]]; then
    failed "folder: $(id -un) cannot write in $root. Fix: mount it read-write on $(hostname), and check owner and quota"
    return
  fi
  passed "folder: $root can be written"
  skew=$(($(date +%s) - $(stat --format=%Y "$probe")))
  rm -f "$probe"
  if ((${skew#-} <= 5)); then passed "clock: $skew s from the file server"; else
    failed "clock: $skew s from the file server of $root. Fix: let chrony or ntpd run on $(hostname)"
  fi
}

check_gpus() {
  local found
  # A GPU in trouble can make nvidia-smi hang rather than fail.
  found=$(timeout 30 nvidia-smi --query-gpu=uuid --format=csv,noheader 2>/dev/null | grep -c '^GPU-' || true)
  if ((found >= gpus)); then passed "gpus: $found answer"; else
    failed "gpus: $found answer nvidia-smi, $gpus needed. Fix: run nvidia-smi on $(hostname); reset or drain the node; in a job, ask Slurm for them (--gpus-per-node)"
  fi
}

root="" min_free=20 gpus=0
while (($# > 0)); do
  case $1 in
    --free | --gpus)
      [[ ${2:-} =~ ^[0-9]+$ ]] || usage "$1 needs a whole number"
      if [[ $1 == --free ]]; then min_free=$2; else gpus=$2; fi
      shift 2 ;;
    -*) usage "unknown option $1" ;;
    *) [[ -z $root ]] || usage "more than one ROOT"; root=$1; shift ;;
  esac
done
[[ -n $root ]] || usage "no ROOT"

if [[ -d $root ]]; then check_disk; check_shared_folder; else
  failed "folder: $root is not there. Fix: mount the shared filesystem on $(hostname), or make the folder"
fi
((gpus == 0)) || check_gpus
((failures == 0))
