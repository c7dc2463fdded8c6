"""
Read untrusted archives: gzip streams, members of tar and zip, and the inspection of a whole archive.

The memory of the readers does not depend on the archive. They never write to disk.
"""
