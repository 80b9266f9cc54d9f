"""Prometheus, its alerts, and Grafana: configuration, and the same for a stack without containers."""
