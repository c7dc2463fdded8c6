"""What the outside sees of a run while it goes on: events, logs, bars, metrics, health and a page."""
