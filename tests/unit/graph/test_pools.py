"""The pools: what goes into their lanes."""

from bulkdl.graph.planning import Wanted
from bulkdl.graph.pools import Pools
from bulkdl.graph.sizes import sizes_of
from bulkdl.graph.stop import Stop
from bulkdl.model import Kind, Outcome, Output, Reason, Result
from bulkdl.settings import Settings
from bulkdl.telemetry.events import NullReporter
from bulkdl.transfer.permits import Permits

ARCHIVES = [Wanted(Output("p", "j", task, Kind.ARCHIVE)) for task in ("t1", "t2", None)]


class Origin:
    """Has everything."""

    def __init__(self):
        self.asked = []

    async def bring(self, wanted, _failed, **_):
        self.asked.append(wanted)
        return Result(wanted.output, Outcome.COMPLETED, Reason.FETCHED)

    async def recorded(self, result):
        pass


class Book:
    async def ended(self, result):
        return result


async def test_what_is_under_way_is_not_brought_a_second_time_and_may_come_again_later():
    settings, origin = Settings(), Origin()
    permits = {kind: Permits(size.start) for kind, size in sizes_of(settings).items()}
    pools = Pools(settings, origin, Book(), NullReporter(), Stop(), permits)
    lane = pools.lanes[Kind.ARCHIVE]
    first, second, third = ARCHIVES
    assert pools.reserve((first, second)) == (first, second)
    await pools.put((first, second))
    assert pools.reserve((second, third)) == (third,)
    await pools.put((third,))
    assert pools.reserve((first,)) == ()
    assert len(lane) == 2
    lane.close()
    await pools.work(Kind.ARCHIVE)
    assert origin.asked == ARCHIVES
    pools.lanes[Kind.ARCHIVE] = again = type(lane)(5)
    assert pools.reserve((first,)) == (first,)
    await pools.put((first,))
    assert len(again) == 1
