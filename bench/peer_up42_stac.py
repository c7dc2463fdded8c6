"""Download all assets of STAC with up42-py 4.3.0, as in its documentation. Runs in .venv-peer_stac."""

import os
import sys
from pathlib import Path

from support.peer_storage import import_client, point_client_at


def main(api_url: str, folder: Path) -> None:
    import_client()
    import up42  # noqa: PLC0415 - after the variable that import_client sets

    point_client_at(api_url)
    up42.authenticate(username=os.environ["UP42_USERNAME"], password=os.environ["UP42_PASSWORD"])
    client = up42.stac_client()
    # One search is faster than a request for the items of each collection.
    for entry in (*client.get_collections(), *client.search().items()):
        for key, asset in entry.assets.items():
            if (file := asset.file) is not None:  # None: another host
                into = folder / entry.id.replace("/", "_") / str(list(entry.assets).index(key))
                into.mkdir(parents=True, exist_ok=True)
                file.download(into)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
