"""Where bytes land: parts first, then, verified and durable, under their final names."""
