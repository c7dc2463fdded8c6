"""The SQLite database that records jobs, outputs, results and runs."""
