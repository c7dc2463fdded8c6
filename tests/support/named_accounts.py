"""A simulated account whose jobs and deliveries have chosen names, which differ between two accounts."""

from dataclasses import dataclass, replace
from functools import cached_property

from bulkdl.simulator import SimulatedAccount
from bulkdl.simulator.v2.deliveries import Deliveries

HOSTILE_NAMES = (
    "../../escape",
    "/etc/passwd",
    "CON",
    "catalog",
    ".bulkdl",
    "index.html",
    "n" * 300,
    "Ünï\u0301cöde/\\ \u202e\x00\n",
    "...",
    "",
    "~123456789abc",
    "BERLIN",
    "Berlin",
)


@dataclass(frozen=True)
class NamedDeliveries(Deliveries):
    names: tuple[str, ...] = ()

    def delivery(self, number):
        return replace(super().delivery(number), title=self.names[number % len(self.names)])


@dataclass(frozen=True)
class NamedAccount(SimulatedAccount):
    """An account with *names* for its jobs and deliveries."""

    names: tuple[str, ...] = HOSTILE_NAMES

    def job(self, project, number):
        return replace(super().job(project, number), name=self.names[number % len(self.names)])

    @cached_property
    def deliveries(self):
        return NamedDeliveries(self.seed, self.ids, self.storage, self.names)
