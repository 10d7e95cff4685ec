#!/usr/bin/env bash
# node_check.sh ROOT [--free GB] [--memory GB] [--gpus COUNT]: is this node fit to run a step?
#   ROOT          the campaign's shared folder        --free GB    it must have that much room (default 20)
#   --memory GB   so much of the node's memory must be free (default 0: not asked)
#   --gpus COUNT  that many GPUs must answer nvidia-smi, alike, unthrottled, without memory errors, and with as many
#                 NVLinks each (default 0: not asked)
# One line per check. Exit status: 0 fit, 1 unfit (the line says the fix), 2 wrong usage.
# For a job's first line, or a Slurm HealthCheckProgram or Prolog (where status 1 drains the node).
set -euo pipefail
failures=0

usage() { echo "node_check.sh: $1; usage: node_check.sh ROOT [--free GB] [--memory GB] [--gpus COUNT]" >&2; exit 2; }
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

check_memory() {
  local free
  free=$(awk '$1 == "MemAvailable:" { print int($2 / 1024 / 1024) }' /proc/meminfo)
  if ((free >= memory)); then passed "memory: $free GB free"; else
    failed "memory: $free GB free, $memory needed. Fix: look for processes that a job left behind on $(hostname)"
  fi
}

# A GPU in trouble can make nvidia-smi hang rather than fail.
smi() { timeout 30 nvidia-smi "$@" 2>/dev/null || true; }

check_gpus() {
  local found
  found=$(smi --query-gpu=uuid --format=csv,noheader | grep -c '^GPU-' || true)
  if ((found >= gpus)); then passed "gpus: $found answer"; else
    failed "gpus: $found answer nvidia-smi, $gpus needed. Fix: run nvidia-smi on $(hostname); reset or drain the node; in a job, ask Slurm for them (--gpus-per-node)"
    return
  fi
  check_gpu_memory
  check_gpu_clocks
  check_nvlink
}

# One that has lost a part of its memory, or counts errors that ECC could not correct. "[N/A]" is none that is known.
check_gpu_memory() {
  local state sizes errors
  state=$(smi --query-gpu=index,memory.total,ecc.errors.uncorrected.volatile.total --format=csv,noheader,nounits)
  sizes=$(cut -s -d, -f2 <<<"$state" | tr -d ' ' | sort -u | paste -s -d ' ')
  errors=$(awk -F', *' '$3 ~ /^[1-9]/ { printf "%s%s has %s", sep, $1, $3; sep = ", " }' <<<"$state")
  if [[ $sizes == *' '* ]]; then
    failed "gpu memory: the GPUs have differing sizes ($sizes MiB). Fix: drain $(hostname); look for MIG (nvidia-smi -L)"
  elif [[ -n $errors ]]; then
    failed "gpu memory: uncorrected ECC errors (GPU $errors). Fix: drain $(hostname), and reset these GPUs (nvidia-smi --gpu-reset)"
  else passed "gpu memory: alike, no uncorrected ECC errors"; fi
}

check_gpu_clocks() {
  local reasons=clocks_throttle_reasons slowed
  slowed=$(smi --query-gpu="index,$reasons.hw_slowdown,$reasons.hw_thermal_slowdown,$reasons.hw_power_brake_slowdown" --format=csv,noheader |
    awk -F', *' '/, *Active/ { printf "%s%s", sep, $1; sep = ", " }')
  if [[ -z $slowed ]]; then passed "gpu clocks: not throttled"; else
    failed "gpu clocks: the hardware slows GPU $slowed down, for heat or power. Fix: drain $(hostname), and check cooling and power supplies"
  fi
}

# GPUs with fewer links than their neighbours; those without any are alike, too.
check_nvlink() {
  local links
  links=$(smi nvlink --status | awk '/^GPU [0-9]/ { gpu++ } /GB\/s/ { active[gpu]++ } END { for (i = 1; i <= gpu; i++) print active[i] + 0 }')
  if (($(sort -u <<<"$links" | wc -l) <= 1)); then passed "nvlink: ${links%%$'\n'*} links of each GPU"; else
    failed "nvlink: the GPUs have $(paste -s -d ' ' <<<"$links") active links. Fix: drain $(hostname), and look at nvidia-smi nvlink --status and the fabric manager"
  fi
}

root="" min_free=20 memory=0 gpus=0
while (($# > 0)); do
  case $1 in
    --free | --memory | --gpus)
      [[ ${2:-} =~ ^[0-9]+$ ]] || usage "$1 needs a whole number"
      case $1 in --free) min_free=$2 ;; --memory) memory=$2 ;; --gpus) gpus=$2 ;; esac
      shift 2 ;;
    -*) usage "unknown option $1" ;;
    *) [[ -z $root ]] || usage "more than one ROOT"; root=$1; shift ;;
  esac
done
[[ -n $root ]] || usage "no ROOT"

if [[ -d $root ]]; then check_disk; check_shared_folder; else
  failed "folder: $root is not there. Fix: mount the shared filesystem on $(hostname), or make the folder"
fi
((memory == 0)) || check_memory
((gpus == 0)) || check_gpus
((failures == 0))
