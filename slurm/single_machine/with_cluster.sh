#!/usr/bin/env bash
# with_cluster.sh COMMAND…: run a command inside a cluster that lives only as long as the command.
# The command finds SLURM_CONF set; the knobs are start.sh's, except STATE, which is a new temporary folder.
# KEEP=1 keeps that folder, for its logs. The messages of the cluster go to standard error.
# Exit status: the command's own; 130 or 143 after Ctrl-C or kill; start.sh's when the cluster does not come up.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
command_pid=""

command_ends_within() { # SECONDS
  local deadline=$((SECONDS + $1))
  while kill -0 "$command_pid" 2>/dev/null; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

end_command() { # SIGNAL
  # A Ctrl-C has reached the command too, through the terminal: a second one would break off its tidying up.
  if [[ $1 == INT ]] && command_ends_within 10; then return; fi
  kill -TERM "$command_pid" 2>/dev/null || true
  command_ends_within 10 || kill -KILL "$command_pid" 2>/dev/null || true
}

interrupted() { # SIGNAL STATUS
  trap '' INT TERM HUP
  [[ -z $command_pid ]] || end_command "$1"
  exit "$2"
}

stop_cluster() {
  trap '' INT TERM HUP
  [[ ! -e $state/processes ]] || STATE=$state "$here/stop.sh" >&2
  if [[ -n ${KEEP:-} ]]; then echo "with_cluster.sh: kept $state" >&2; else rm -rf "$state"; fi
}

(($# > 0)) || { echo "usage: with_cluster.sh COMMAND [ARGUMENT…]" >&2; exit 2; }
trap 'interrupted INT 130' INT
trap 'interrupted TERM 143' TERM HUP
state=$(mktemp --directory /tmp/msm-slurm.XXXXXX) # not TMPDIR: the path of a socket must be short
trap stop_cluster EXIT

unset "${!SLURM_@}" # when called from inside a job of another cluster
STATE=$state "$here/start.sh" >&2
export SLURM_CONF=$state/etc/slurm.conf
# In the background, because a shell that waits for a foreground command answers no signal; with the terminal as its
# input and Ctrl-C undone from "ignore", both of which the shell takes from background commands.
env --default-signal=INT,QUIT -- "$@" <&0 &
command_pid=$!
wait "$command_pid"
