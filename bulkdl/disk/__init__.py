"""Files on a local disk: atomic and durable writes, reserved disk space, safe file names."""
