"""One resumable transfer: pure decisions, and the HTTP stream that carries them out."""
