"""
The archive of the first job with up42-py 0.37.2, as its documentation shows it; exit code 1 is an exception.

``python up42_py.py API_URL FOLDER`` in the environment that has the client; the login is in UP42_PROJECT_ID
and UP42_PROJECT_API_KEY. It leaves ``output.tgz`` in the folder.
"""

import os
import sys
from pathlib import Path

import up42
import up42.host


def point_client_at(url: str) -> None:
    """Every module of the client holds its own name for ``endpoint``; they all share its code."""

    def endpoint(path: str) -> str:
        return BASE_URL + path  # type: ignore[name-defined] # noqa: F821 - a global of up42.host

    up42.host.BASE_URL = url
    up42.host.endpoint.__code__ = endpoint.__code__


def main(api_url: str, folder: Path) -> None:
    point_client_at(api_url)
    project_id = os.environ["UP42_PROJECT_ID"]
    up42.authenticate(project_id=project_id, project_api_key=os.environ["UP42_PROJECT_API_KEY"])
    job = up42.initialize_project(project_id).get_jobs()[0]
    job.download_results(folder, unpacking=False)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
