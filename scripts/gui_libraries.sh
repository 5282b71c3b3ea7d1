#!/usr/bin/env bash
# Installs the system libraries and fonts the window needs, or says how: gui_libraries.sh PYTHON [--window|--pictures]
# Without a flag only what tests need, which open no display; --window adds a display's, --pictures the pictures' fonts.
set -euo pipefail
python=$1 what=${2:-}

install_packages() { # PURPOSE PACKAGE...
    local purpose=$1
    shift
    [ $# -gt 0 ] || return 0
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "Installing $*, which $purpose."
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null && return 0
    fi
    echo "This system lacks packages that $purpose. Run: sudo apt-get install $*" >&2
    exit 1
}

packages=$("$python" -m parley.gui.libraries ${what/--pictures/})
install_packages "the window needs" $packages
if [ "$what" = --pictures ]; then
    fonts=$("$python" -m scripts.screenshots --missing-fonts)
    install_packages "the pictures are drawn with" $fonts
fi
