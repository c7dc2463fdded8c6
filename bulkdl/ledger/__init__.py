"""The durable record: what is done, what failed, and why. SQLite."""
