"""One module per row of the table, or per group of rows with the same server."""
