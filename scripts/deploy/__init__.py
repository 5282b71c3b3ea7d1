"""Files to install nodes from: systemd, Docker."""
