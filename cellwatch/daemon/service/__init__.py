"""The daemon as a service: start, signals, systemd."""
