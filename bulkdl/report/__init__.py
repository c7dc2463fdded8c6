"""Results of runs, plans, status and verification as values. The command line renders them."""
