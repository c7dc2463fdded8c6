"""
Download the archive of the first job with up42-py 0.37.2, as in its documentation. Exit code 1: an exception.

Run ``python up42_py.py API_URL FOLDER`` in the environment of the client, with tests/ in PYTHONPATH. The
credentials are UP42_PROJECT_ID and UP42_PROJECT_API_KEY. The script writes ``output.tgz`` to the directory.
"""

import os
import sys
from pathlib import Path

import up42

from support.point_client import point_client_at


def main(api_url: str, folder: Path) -> None:
    point_client_at(api_url)
    project_id = os.environ["UP42_PROJECT_ID"]
    up42.authenticate(project_id=project_id, project_api_key=os.environ["UP42_PROJECT_API_KEY"])
    job = up42.initialize_project(project_id).get_jobs()[0]
    job.download_results(folder, unpacking=False)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
