"""Run the command line with ``python -m bulkdl``."""

from bulkdl.cli import main

main()
