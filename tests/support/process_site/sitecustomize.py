"""
Limit the receive buffers of a bulkdl process. Python imports this module when it starts.

The kernel accepts bytes for a process that is too busy to read them. These bytes count as sent, and they are
lost when the process is killed. By default, that can be megabytes for each connection.
"""

import socket

_RECEIVE_BYTES = 32 << 10
_initialise = socket.socket.__init__


def _initialise_small(self, family=-1, type=-1, proto=-1, fileno=None):  # noqa: A002 - the name in socket
    _initialise(self, family, type, proto, fileno)
    if self.family in (socket.AF_INET, socket.AF_INET6):
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)


socket.socket.__init__ = _initialise_small
