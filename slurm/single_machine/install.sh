#!/usr/bin/env bash
# Install what start.sh needs, from Debian's own packages. Starts no daemon. Does nothing when all is there.
# Exit status: 0 installed, 1 apt failed, 2 this cannot work here.
set -euo pipefail

packages=(munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins
          slurmdbd slurm-wlm-mysql-plugin mariadb-server-core)
policy=/usr/sbin/policy-rc.d

unsupported() { echo "install.sh: $1" >&2; exit 2; }

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
  done
}

# Debian starts a service as soon as its package is unpacked, unless policy-rc.d answers 101.
forbid_service_start() {
  saved=$(mktemp -d)
  trap restore_policy EXIT
  [[ ! -e $policy ]] || mv "$policy" "$saved/policy-rc.d"
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}

restore_policy() {
  rm -f "$policy"
  [[ ! -e $saved/policy-rc.d ]] || mv "$saved/policy-rc.d" "$policy"
  rmdir "$saved"
}

apt_install() { apt-get install -qq --yes --no-install-recommends "$@"; }

main() {
  command -v apt-get >/dev/null || unsupported "no apt-get here: this script knows Debian only. Install Slurm your own way."
  local missing
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]} == 0)); then
    echo "install.sh: nothing to do, $(slurmctld -V) is here"
    return
  fi
  ((EUID == 0)) || unsupported "not root; run it as root, it must install: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  forbid_service_start
  # The package lists may be absent or stale (a fresh container): only then pay for an update.
  apt_install "${missing[@]}" || { apt-get update -qq && apt_install "${missing[@]}"; }
  echo "install.sh: installed $(slurmctld -V)"
}

main
