"""One HTML page that shows all outputs on a map and in a list. It opens from the disk without a server."""
