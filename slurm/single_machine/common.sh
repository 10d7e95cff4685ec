# shellcheck shell=bash
# What start.sh and stop.sh share: the state folder, and the list of the processes that belong to it.
#
# STATE/processes has one line per daemon: name, process id, kernel start time. The start time tells our daemon
# from a later process that was given the same id, so that stop.sh can never end a stranger.

# A cluster may be started from inside a job of another one, whose variables must not steer ours.
unset "${!SLURM_@}"

STATE=${STATE:-/tmp/msm-slurm}
export SLURM_CONF=$STATE/etc/slurm.conf

die() { echo "${0##*/}: $1" >&2; exit "${2:-1}"; }

# The field `starttime` of /proc/PID/stat; fails when the process is gone or a zombie (a container's first process
# may reap late). The second field, the program's name in parentheses, may itself hold spaces.
start_time() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != Z ]] && echo "${fields[19]}"
}

is_alive() { [[ $(start_time "$1") == "$2" ]]; }

# within SECONDS COMMAND…: repeat the command until it succeeds; fails when the time is over.
within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}
