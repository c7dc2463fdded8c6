"""What a run, a plan or a ledger amounts to, as values; rendering them is the command line's."""
