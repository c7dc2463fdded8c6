"""Run the stages: enumerate, plan, download, commit, record. Only this package starts workers."""
