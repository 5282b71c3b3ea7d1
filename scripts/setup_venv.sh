#!/usr/bin/env bash
# Make the virtual environment of this checkout: setup_venv.sh VENV PYTHON
set -euo pipefail
venv=$1 python=$2

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Parley needs Python 3.11 or newer; $python is $("$python" --version 2>&1)." >&2
    echo "Name another one: make PYTHON=python3.12 ..." >&2
    exit 1
}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')
    package="python$version-venv"
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "Installing $package, which Debian keeps apart from Python."
        apt-get update -qq && apt-get install -y -qq "$package"
    else
        echo "This Python has no venv module. Run: sudo apt-get install $package" >&2
        exit 1
    fi
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_WARN_SCRIPT_LOCATION=1 PIP_NO_INPUT=1
count=$(grep -c '^[A-Za-z0-9]' requirements-dev.lock)
live=0
if [ -t 1 ]; then live=1; fi

# On a terminal a line counts what the installer has collected. Its errors go to stderr as they are.
count_collected() {
    awk -v all="$count" -v live="$live" '
        /^Collecting / { n++; if (live) { printf "\r   %d of %d collected", n, all; fflush() } }
        /^Installing collected/ { if (live) printf "\r   all collected, installing ...\n"; fflush() }'
}

echo "Making the environment of this checkout in $venv, once."
if [ ! -x "$venv/bin/python" ]; then
    echo "1 of 3: a virtual environment of $("$python" --version 2>&1)"
    "$python" -m venv "$venv"
fi
echo "2 of 3: $count pinned packages; this takes a minute where none is cached"
"$venv/bin/python" -m pip install --progress-bar off --require-hashes -r requirements-dev.lock | count_collected
echo "3 of 3: Parley itself"
"$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e .
echo "The environment is ready."
