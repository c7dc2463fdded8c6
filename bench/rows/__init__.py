"""One module a row of the table (or for rows that share their origin); each has ``run``."""
