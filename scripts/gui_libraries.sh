#!/usr/bin/env bash
# Installs the system libraries the window needs, or says how: gui_libraries.sh PYTHON [--window]
# Without --window only what tests and pictures need, which open no display.
set -euo pipefail
python=$1 what=${2:-}

mapfile -t packages < <("$python" -m parley.gui.libraries $what)
[ ${#packages[@]} -gt 0 ] || exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing ${packages[*]}, which the window needs."
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null && exit 0
fi
echo "The window needs libraries this system does not have. Run: sudo apt-get install ${packages[*]}" >&2
exit 1
