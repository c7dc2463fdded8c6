"""``python -m bulkdl``."""

from bulkdl.cli import main

main()
