"""Send the report of a run to a command and to a URL."""
