"""bulkdl beside what a user would take instead, on one origin, as ratios. Run it: ``python -m bench``."""
