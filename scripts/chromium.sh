#!/usr/bin/env bash
# Installs the browser that draws the dashboard's pictures, or says how.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && exit 0
done
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing chromium, which draws the pictures of the dashboard."
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null && exit 0
fi
echo "This system has no Chromium. Run: sudo apt-get install chromium fonts-dejavu-core (Debian, Ubuntu), or sudo dnf install chromium" >&2
exit 1
