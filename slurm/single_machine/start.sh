#!/usr/bin/env bash
# Start a throw-away Slurm cluster on this machine: munged, mariadbd, slurmdbd, slurmctld and one slurmd per node.
#   STATE=/tmp/msm-slurm  where everything lives (new or empty)    PORT=  first port (default: a free one)
#   NODES=2  CPUS=4 per node (may exceed the machine's)  MEM=8000 MB per node  GPUS=0 per node (fake: /dev/null)
# Exit status: 0 all nodes idle, 1 a daemon failed (its log is shown, the rest is stopped), 2 this cannot work here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=common.sh
source "$here/common.sh"
# shellcheck source=configuration.sh
source "$here/configuration.sh"
NODES=${NODES:-2} CPUS=${CPUS:-4} MEM=${MEM:-8000} GPUS=${GPUS:-0} PORT=${PORT:-}
patience=60 # seconds that a daemon may take to answer on a loaded machine

check_machine() {
  ((EUID == 0)) || die "not root: slurmd must be able to switch users" 2
  local program
  for program in munged mariadbd slurmdbd slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || die "$program is not installed; run $here/install.sh" 2
  done
  # Slurm's files know no quoting, and a Unix socket's path has at most 107 bytes.
  [[ $STATE =~ ^/[A-Za-z0-9/._-]{1,80}$ ]] || die "STATE=$STATE must be absolute, short and plain (letters, digits, / . _ -)" 2
  [[ $NODES =~ ^[1-9][0-9]?$ && $CPUS =~ ^[1-9][0-9]*$ && $MEM =~ ^[1-9][0-9]*$ && $GPUS =~ ^[0-9]+$ ]] ||
    die "NODES=$NODES (1 to 99), CPUS=$CPUS, MEM=$MEM and GPUS=$GPUS must be whole numbers" 2
}

make_state() {
  [[ ! -e $STATE || -z $(ls -A "$STATE") ]] || die "STATE=$STATE is not empty: run stop.sh if a cluster runs there, else remove it"
  mkdir -p "$STATE"/{etc,run,log,controller,nodes,gpus,database/mysql,tmp}
  chmod 755 "$STATE" # job users reach the munge socket through it
  mkdir "$STATE/small" # for tests of a full disk; mounted here, ahead of the nodes, so that these see it
  mount -t tmpfs -o size=24m tmpfs "$STATE/small" 2>/dev/null || rmdir "$STATE/small"
  : >"$STATE/processes"
}

launch() { # NAME COMMAND…: in its own session, so that a Ctrl-C in the terminal does not reach it
  setsid "${@:2}" >"$STATE/log/$1.out" 2>&1 </dev/null &
  launched="$! $(start_time $! || echo ended)"
  echo "$1 $launched" >>"$STATE/processes"
  disown
}

# answers NAME COMMAND…: wait until the command succeeds, which shows that the daemon launched last is at work.
answers() {
  local deadline=$((SECONDS + patience))
  until "${@:2}" >/dev/null 2>&1; do
    # shellcheck disable=SC2086 # two words: process id and start time
    if ! is_alive $launched || ((SECONDS >= deadline)); then
      tail -n 20 "$STATE/log/$1"*.out >&2
      die "$1 does not answer; its log is above"
    fi
    sleep 0.1
  done
}

start_munge() {
  (umask 077 && head -c 128 /dev/urandom >"$STATE/etc/munge.key")
  launch munged munged --foreground --force --socket="$STATE/run/munge.sock" --key-file="$STATE/etc/munge.key" \
    --pid-file="$STATE/run/munged.pid" --seed-file="$STATE/run/munge.seed" --log-file="$STATE/log/munged.log"
  answers munged munge --no-input --socket="$STATE/run/munge.sock"
}

start_database() {
  export MYSQL_UNIX_PORT=$STATE/run/mysql.sock
  # Nothing here must survive a power cut, so the database is spared its care. Its temporary tables lie apart: in /tmp,
  # the database of another cluster deletes them as it starts.
  local options=(--no-defaults --user=root --datadir="$STATE/database" --tmpdir="$STATE/tmp" --skip-log-bin --performance-schema=0
    --innodb-buffer-pool-size=64M --innodb-log-file-size=16M --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0)
  # slurmdbd uses a stored procedure, which needs the system tables; without them it silently misreads limits.
  { echo 'USE mysql;'; cat /usr/share/mysql/mysql_system_tables.sql; } |
    mariadbd "${options[@]}" --bootstrap >"$STATE/log/bootstrap.out" 2>&1 || die "MariaDB made no tables: $(tail -n 3 "$STATE/log/bootstrap.out")"
  launch mariadbd mariadbd "${options[@]}" --socket="$MYSQL_UNIX_PORT" --pid-file="$STATE/run/mariadbd.pid" \
    --skip-networking --skip-grant-tables --innodb-lock-wait-timeout=900
  answers mariadbd test -S "$MYSQL_UNIX_PORT"
  launch slurmdbd slurmdbd -D
  answers slurmdbd sacctmgr show cluster
  sacctmgr --immediate add cluster single >"$STATE/log/sacctmgr.out" 2>&1 || die "sacctmgr: $(<"$STATE/log/sacctmgr.out")"
}

start_node() { # NAME
  mkdir "$STATE/nodes/$1"
  if [[ -e $STATE/etc/hosts ]]; then
    # shellcheck disable=SC2016 # expanded by the inner shell, inside the new namespaces
    launch "slurmd.$1" unshare --uts --mount --propagation slave sh -c \
      'mount --bind "$1" /etc/hosts && hostname "$2" && exec slurmd -D -N "$2"' sh "$STATE/etc/hosts" "$1"
  else
    launch "slurmd.$1" slurmd -D -N "$1"
  fi
}

all_nodes_idle() { [[ $(sinfo --noheader --Node --states=idle --format=%N | wc -l) == "$NODES" ]]; }

start_slurm() {
  launch slurmctld slurmctld -D
  answers slurmctld scontrol ping
  for ((i = 1; i <= NODES; i++)); do start_node "n$i"; done
  answers slurmd all_nodes_idle
}

main() {
  check_machine
  make_state
  trap '"$here/stop.sh"' EXIT # a half-started cluster must not stay
  choose_ports
  choose_host_names
  write_configuration
  start_munge
  start_database
  start_slurm
  trap - EXIT
  echo "start.sh: $NODES nodes idle after $SECONDS s; now: export SLURM_CONF=$SLURM_CONF"
}

main
