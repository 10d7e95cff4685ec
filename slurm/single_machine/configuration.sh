# shellcheck shell=bash disable=SC2154
# The part of start.sh that decides: which ports, which host names, and the configuration files that say so.
# Sets node_host and PORT. Uses STATE, NODES, CPUS, MEM, GPUS, here and die of start.sh, which sources it.

is_port_range_free() { # FIRST LAST
  local address used
  while read -r _ address _; do
    used=$((16#${address##*:}))
    ((used < $1 || used > $2)) || return 1
  done < <(tail -qn +2 /proc/net/tcp /proc/net/tcp6 2>/dev/null)
}

# One port for the controller, one for the database, one per node, below the kernel's own range, from which
# the ranks of a training get theirs.
choose_ports() {
  local count=$((NODES + 2))
  if [[ -n $PORT ]]; then
    is_port_range_free "$PORT" $((PORT + count - 1)) || die "PORT=$PORT: a port from $PORT to $((PORT + count - 1)) is in use"
    return
  fi
  for _ in {1..100}; do
    PORT=$((10000 + RANDOM % 100 * 100))
    ! is_port_range_free "$PORT" $((PORT + count - 1)) || return 0
  done
  die "found no $count free ports in a row between 10000 and 20000; name the first with PORT="
}

# Own host names let a job see several hosts. They need the right to make namespaces, which a container may not have.
choose_host_names() {
  if unshare --uts --mount true 2>/dev/null; then
    node_host="n[1-$NODES]"
    { cat /etc/hosts; for ((i = 1; i <= NODES; i++)); do echo "127.0.0.1 n$i"; done; } >"$STATE/etc/hosts"
  else
    node_host=$(hostname -s)
    echo "start.sh: no right to make namespaces here, so every node reports the host name $node_host" >&2
  fi
}

render() { # TEMPLATE KEY=VALUE…: the template with each @KEY@ replaced by its value
  local text pair
  text=$(<"$here/templates/$1.in")
  for pair in "${@:2}"; do text=${text//"@${pair%%=*}@"/"${pair#*=}"}; done
  printf '%s\n' "$text" >"$STATE/etc/$1"
  chmod 600 "$STATE/etc/$1" # slurmdbd insists on it
}

write_configuration() {
  local gres=""
  if ((GPUS > 0)); then
    gres="Gres=gpu:$GPUS"
    # Slurm sets CUDA_VISIBLE_DEVICES for character devices only, which is what /dev/null is.
    for ((i = 0; i < GPUS; i++)); do ln -s /dev/null "$STATE/gpus/nvidia$i"; done
    echo "NodeName=n[1-$NODES] Name=gpu File=$STATE/gpus/nvidia[0-$((GPUS - 1))]" >"$STATE/etc/gres.conf"
  fi
  render slurmdbd.conf STATE="$STATE" DATABASE_PORT=$((PORT + 1))
  render slurm.conf STATE="$STATE" HOST="$(hostname -s)" NODES="$NODES" CPUS="$CPUS" MEM="$MEM" GRES="$gres" \
    CONTROLLER_PORT="$PORT" DATABASE_PORT=$((PORT + 1)) NODE_PORTS="[$((PORT + 2))-$((PORT + 1 + NODES))]" \
    NODE_HOST="$node_host" MEM_PER_CPU=$((MEM / CPUS))
  chmod 644 "$SLURM_CONF"
}
