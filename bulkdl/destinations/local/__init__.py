"""The local file system as the destination: partial files, and verified files under their final names."""
