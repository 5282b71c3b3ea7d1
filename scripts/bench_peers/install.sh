#!/usr/bin/env bash
# Install what `make bench-peers` needs: Debian packages of the servers, and the Python clients in VENV (none: packages only).
# No service of the distribution is started. A server that is missing is left out of the run.
set -euo pipefail
venv=${1:-}
packages=(nats-server etcd-server rabbitmq-server)

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then # which apt-get asks before it starts a service
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
            trap 'rm -f "$policy"' EXIT
        fi
        echo "Installing ${missing[*]}. Their services are not started."
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
            echo "apt-get could not install ${missing[*]}. What is missing is left out." >&2
    else
        echo "Not installed: ${missing[*]}. They are left out. To install them, run:" >&2
        echo "    sudo bash scripts/bench_peers/install.sh" >&2
    fi
fi
if [ -n "$venv" ]; then
    "$venv/bin/python" -m pip install --quiet --require-hashes -r requirements-peers.lock
fi
