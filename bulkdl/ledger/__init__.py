"""The SQLite database that records containers, outputs, results and runs."""
