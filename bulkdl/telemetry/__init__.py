"""Events, logs, progress display, metrics, health endpoints and status page of a run."""
