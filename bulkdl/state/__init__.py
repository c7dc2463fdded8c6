"""The state directory of a run: ledger, partial files and reports. It is always on a local file system."""
