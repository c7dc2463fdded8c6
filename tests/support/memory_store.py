"""Runs of the library whose destination is an object store in memory."""

from collections import Counter

import obstore
from obstore.store import MemoryStore

from bulkdl.destinations import registry
from bulkdl.destinations.objectstore.destination import ObjectStoreDestination

CALLS = ("list", "get", "get_async", "get_range_async", "head", "put_async", "copy_async", "delete_async")


def use_memory_store(monkeypatch):
    """Let ``memory://`` URLs name one store in memory. Return the store and the counters of its calls."""
    store, calls = MemoryStore(), Counter()
    monkeypatch.setitem(
        registry.DESTINATIONS, "memory", lambda url, options: ObjectStoreDestination(store, url, options)
    )
    for name in CALLS:
        monkeypatch.setattr(obstore, name, count_calls(getattr(obstore, name), name, calls))
    return store, calls


def count_calls(function, name, calls):
    def counted(*args, **kwargs):
        calls[name] += 1
        return function(*args, **kwargs)

    return counted
