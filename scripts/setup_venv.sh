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
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --require-hashes -r requirements-dev.lock
"$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e .
