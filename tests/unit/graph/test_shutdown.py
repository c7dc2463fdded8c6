"""ShutdownController: drain, abort and the recorded cause."""

from bulkdl.failure_policy import ExitCode
from bulkdl.graph.shutdown import ShutdownController


def test_request_drains_first_and_aborts_second():
    stop = ShutdownController()
    assert not stop.draining.is_set()
    assert not stop.requested
    stop.request(ExitCode.INTERRUPTED)
    assert (stop.draining.is_set(), stop.aborting.is_set()) == (True, False)
    assert stop.stopping.is_set()
    stop.request(ExitCode.TERMINATED)
    assert (stop.draining.is_set(), stop.aborting.is_set()) == (True, True)
    assert stop.cause is ExitCode.INTERRUPTED
