"""The lease in a bucket, against an object store in memory and a clock that the test moves."""

import asyncio
import json

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from bulkdl.destinations.objectstore.calls import StoreCalls
from bulkdl.destinations.objectstore.state_objects import ObjectStoreState
from bulkdl.errors import ConfigError, DestinationError, OutputLockedError
from bulkdl.http.retry import RetryPolicy
from bulkdl.ledger.lease import Owner
from bulkdl.state.bucket_lease import BucketLease, LeaseLostError

KEY = ".bulkdl/lease.json"
LEASE_S = 60.0


class Bucket:
    """A store in memory, and the leases of several runs on one timeline."""

    def __init__(self, timeline):
        self.store = MemoryStore()
        policy = RetryPolicy(max_attempts=1, base_s=0)
        self.objects = ObjectStoreState(self.store, StoreCalls("memory://bucket", policy))
        self.timeline = timeline

    def lease(self, name, **changes):
        owner = Owner(name, f"host-of-{name}", 7)
        times = {"sleep": self.timeline.sleep, "wait": self.timeline.sleep, "clock": self.timeline.clock}
        return BucketLease(self.objects, KEY, owner, "s3://bucket", LEASE_S, **{**times, **changes})

    @property
    def holder(self):
        return json.loads(bytes(obstore.get(self.store, KEY).bytes()))["run_id"]


@pytest.fixture
def bucket(timeline):
    return Bucket(timeline)


class Losses(list):
    """The errors with which a lease was lost."""

    async def keep(self, lease):
        await lease.keep(self.append)


async def test_acquire_free_lease_takes_it_and_release_frees_it(bucket, timeline):
    for name in ("a", "b"):
        lease = bucket.lease(name)
        await lease.acquire()
        lease.check()
        assert bucket.holder == name
        await lease.release()
        assert bucket.holder is None
        with pytest.raises(LeaseLostError):
            lease.check()
    assert timeline.slept == []


async def test_acquire_renewed_lease_is_refused_with_owner_and_age(bucket, timeline):
    owner = bucket.lease("a")
    await owner.acquire()

    async def sleep(delay_s):
        await timeline.sleep(delay_s)
        await owner._renew()

    with pytest.raises(OutputLockedError, match=r"s3://bucket: .* \(host host-of-a, pid 7, for \d+ s, since"):
        await bucket.lease("b", sleep=sleep).acquire()
    assert timeline.slept == [LEASE_S / 6]
    owner.check()


async def test_acquire_unchanged_lease_is_taken_over_after_its_lease_time(bucket, timeline):
    former = bucket.lease("a")
    await former.acquire()
    seen_at = timeline.now
    latest = bucket.lease("b")
    await latest.acquire()
    assert timeline.now == pytest.approx(seen_at + LEASE_S)
    assert bucket.holder == "b"
    with pytest.raises(LeaseLostError, match="could not be renewed within 50 s"):
        former.check()
    with pytest.raises(LeaseLostError, match=r"another run \(host host-of-b, pid 7\) has taken over"):
        await former._renew()
    await former.release()
    assert bucket.holder == "b"


async def test_acquire_observes_the_lease_time_of_the_owner(bucket, timeline):
    owner = Owner("a", "host-of-a", 7)
    long = BucketLease(bucket.objects, KEY, owner, "s3://bucket", 300.0, clock=timeline.clock)
    await long.acquire()
    before = timeline.now
    await bucket.lease("b").acquire()
    assert timeline.now == pytest.approx(before + 300)


async def test_acquire_unreadable_lease_is_observed(bucket, timeline):
    obstore.put(bucket.store, KEY, b"not JSON")
    before = timeline.now
    await bucket.lease("b").acquire()
    assert timeline.now == pytest.approx(before + LEASE_S)


async def test_acquire_lease_released_meanwhile_takes_it(bucket, timeline):
    owner = bucket.lease("a")
    await owner.acquire()

    async def sleep(delay_s):
        await timeline.sleep(delay_s)
        await owner.release()

    await bucket.lease("b", sleep=sleep).acquire()
    assert bucket.holder == "b"
    assert timeline.slept == [LEASE_S / 6]


async def test_acquire_stops_waiting_when_the_run_is_stopped(bucket):
    await bucket.lease("a").acquire()

    async def return_early(delay_s):
        """Return before the delay, as the sleep of a run that drains."""

    with pytest.raises(OutputLockedError):
        await bucket.lease("b", sleep=return_early).acquire()
    assert bucket.holder == "a"


async def test_acquire_concurrent_runs_one_gets_the_lease(bucket):
    leases = [bucket.lease(str(number)) for number in range(5)]
    results = await asyncio.gather(*(lease.acquire() for lease in leases), return_exceptions=True)
    assert [type(result) for result in results].count(OutputLockedError) == 4
    leases[results.index(None)].check()


async def test_acquire_store_that_ignores_conditions_is_refused(bucket, monkeypatch):
    put = obstore.put_async
    monkeypatch.setattr(
        obstore, "put_async", lambda *args, mode=None, **more: put(*args, **more, mode="overwrite")
    )
    with pytest.raises(
        ConfigError, match=r"ignores the conditions of conditional writes .* use --lease none"
    ):
        await bucket.lease("a").acquire()


async def test_keep_renews_until_the_store_fails_and_then_fences_itself(bucket, timeline, monkeypatch):
    lease, lost = bucket.lease("a"), Losses()
    await lease.acquire()
    acquired_at = timeline.now
    put, writes = obstore.put_async, []

    async def fail_after_three(*args, **more):
        writes.append(timeline.now)
        if len(writes) > 3:
            raise GenericError("Generic S3 error: HTTP error: error sending request")
        return await put(*args, **more)

    monkeypatch.setattr(obstore, "put_async", fail_after_three)
    await lost.keep(lease)
    renewed_at = acquired_at + 3 * LEASE_S / 6
    assert writes[:3] == pytest.approx([acquired_at + 10, acquired_at + 20, acquired_at + 30])
    assert timeline.now == pytest.approx(renewed_at + LEASE_S * 5 / 6)
    assert len(writes) > 10
    assert ["could not be renewed within 50 s" in str(error) for error in lost] == [True]
    with pytest.raises(LeaseLostError):
        lease.check()


async def test_keep_paused_owner_is_fenced_before_it_writes(bucket, timeline):
    lease, lost = bucket.lease("a"), Losses()
    await lease.acquire()
    before = bytes(obstore.get(bucket.store, KEY).bytes())
    timeline.now += 3 * LEASE_S
    with pytest.raises(LeaseLostError):
        lease.check()
    await lost.keep(lease)
    assert len(lost) == 1
    assert bytes(obstore.get(bucket.store, KEY).bytes()) == before


async def test_keep_lost_responses_are_recognised(bucket, timeline, monkeypatch):
    lease, lost = bucket.lease("a"), Losses()
    await lease.acquire()
    put, writes = obstore.put_async, []

    async def lose_responses(*args, **more):
        writes.append(timeline.now)
        await put(*args, **more)
        raise GenericError("Generic S3 error: HTTP error: error sending request")

    monkeypatch.setattr(obstore, "put_async", lose_responses)
    keeping = asyncio.ensure_future(lost.keep(lease))
    while len(writes) < 20:
        await asyncio.sleep(0)
        assert not keeping.done()
    keeping.cancel()
    assert lost == []
    lease.check()


async def test_keep_continues_with_a_write_whose_result_was_unknown(bucket, timeline, monkeypatch):
    lease, lost = bucket.lease("a"), Losses()
    await lease.acquire()
    put, get, writes = obstore.put_async, obstore.get_async, []

    async def lose_response(*args, **more):
        writes.append(timeline.now)
        result = await put(*args, **more)
        if len(writes) == 1:
            raise GenericError("Generic S3 error: HTTP error: error sending request")
        return result

    async def fail_once(*args, **more):
        if len(writes) == 1:
            writes.append("unknown")
            raise GenericError("Generic S3 error: HTTP error: error sending request")
        return await get(*args, **more)

    monkeypatch.setattr(obstore, "put_async", lose_response)
    monkeypatch.setattr(obstore, "get_async", fail_once)
    keeping = asyncio.ensure_future(lost.keep(lease))
    while len(writes) < 8:
        await asyncio.sleep(0)
        assert not keeping.done()
    keeping.cancel()
    assert lost == []
    lease.check()


async def test_keep_lease_taken_over_is_lost(bucket):
    lease, lost = bucket.lease("a"), Losses()
    await lease.acquire()
    obstore.put(bucket.store, KEY, b'{"run_id": null, "nonce": "another"}')
    await bucket.lease("b").acquire()
    await lost.keep(lease)
    assert ["has taken over the lease" in str(error) for error in lost] == [True]


async def test_release_store_that_fails_is_logged_and_the_lease_ends(bucket, monkeypatch):
    lease = bucket.lease("a")
    await lease.acquire()

    async def fail(*args, **more):
        raise GenericError("Generic S3 error: HTTP error: error sending request")

    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put_async", fail)
        await lease.release()
    assert bucket.holder == "a"
    with pytest.raises(LeaseLostError):
        lease.check()


async def test_acquire_store_that_fails_raises_its_error(bucket, monkeypatch):
    async def fail(*args, **more):
        raise GenericError("Generic S3 error: HTTP error: error sending request")

    monkeypatch.setattr(obstore, "get_async", fail)
    with pytest.raises(DestinationError):
        await bucket.lease("a").acquire()
