"""Enumerate, plan, fetch, commit, record: the stages of a run and the only place that starts workers."""
