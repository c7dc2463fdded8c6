"""Print the files that ``bulkdl simulate`` serves by default. Runs in the environment of bulkdl."""

import asyncio
import hashlib
import json
from dataclasses import asdict

from bulkdl.simulator import SimulatedAccount, Simulator


async def main() -> None:
    async with Simulator(SimulatedAccount()) as simulator:
        files = [
            {
                "asset_id": file.asset_id,
                "collection_id": file.collection_id,
                "is_original": file.is_original,
                "order_id": file.order_id,
                "name": file.name,
                "places": [asdict(place) for place in file.places],
                "sha256": hashlib.sha256(file.read()).hexdigest(),
            }
            for file in simulator.expected_files()
        ]
        document = {"files": files, "foreign": list(simulator.foreign_hrefs())}
    print(json.dumps(document))  # noqa: T201 - the result of this script


if __name__ == "__main__":
    asyncio.run(main())
