"""Run downloads permanently: on a schedule and after events of UP42."""
