"""Code that several test modules share. tests/ is on the import path of pytest."""
