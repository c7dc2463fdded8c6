"""Compare bulkdl with other programs on the same server. Run it with ``python -m bench``."""
