"""The filters of deliveries in a selection: workspaces, orders and processing jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bulkdl.models import Container, Output
from bulkdl.sources.up42_storage.spec import KINDS

_KINDS = frozenset(KINDS)


@dataclass(frozen=True, slots=True)
class DeliveryFilters:
    """
    The filters of deliveries. A delivery is selected if it matches all of them; empty: any.

    Attributes:
        workspace_ids: In lower case, like the other IDs.
        job_ids: The processing jobs that produced the deliveries.
    """

    workspace_ids: tuple[str, ...] = ()
    order_ids: tuple[str, ...] = ()
    job_ids: tuple[str, ...] = ()

    def excluding_filter(self, container: Container) -> str | None:
        """Return the flag of the first filter that excludes a delivery; None if there is none."""
        attributes = container.attributes
        if self.workspace_ids and container.ref.scope.lower() not in self.workspace_ids:
            return "workspace"
        if self.order_ids and attributes.get("order", "").lower() not in self.order_ids:
            return "order"
        if self.job_ids and attributes.get("job", "").lower() not in self.job_ids:
            return "job"
        return None

    def includes(self, output: Output) -> bool:
        """Return True: the filters concern whole deliveries."""
        del output
        return True

    def wanted_kinds(self, kinds: frozenset[str]) -> frozenset[str]:
        """Return those of *kinds* that deliveries have."""
        return kinds & _KINDS

    def with_job_ids(self, job_ids: Sequence[str]) -> DeliveryFilters:
        """Return filters that also select by processing jobs."""
        return replace(self, job_ids=tuple(dict.fromkeys(identity.lower() for identity in job_ids)))

    def scope_values(self, shared: Mapping[str, object]) -> list[object]:
        """Return all values."""
        return ["storage", *shared.values(), *self.as_dict().values()]

    def as_dict(self) -> dict[str, object]:
        """Return the filters for the run report."""
        return {
            "workspace_ids": sorted(self.workspace_ids),
            "order_ids": sorted(self.order_ids),
            "job_ids": sorted(self.job_ids),
        }
