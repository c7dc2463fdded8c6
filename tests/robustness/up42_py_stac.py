"""
Download the original of the first collection with up42-py 4.3.0. Exit code 1: an exception.

Run ``python up42_py_stac.py API_URL FOLDER`` in the environment of the client, with tests/ in PYTHONPATH. The
credentials are UP42_USERNAME and UP42_PASSWORD. The script writes ``output.tgz`` to the directory.
"""

import os
import sys
from pathlib import Path

from support.peer_storage import import_client, point_client_at


def main(api_url: str, folder: Path) -> None:
    import_client()
    import up42

    point_client_at(api_url)
    up42.authenticate(username=os.environ["UP42_USERNAME"], password=os.environ["UP42_PASSWORD"])
    collection = next(iter(up42.stac_client().get_collections()))
    (original,) = (asset for asset in collection.assets.values() if "original" in asset.roles)
    original.file.download(folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
