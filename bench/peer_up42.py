"""Download all outputs of a project with up42-py 0.37.2, as in its documentation. Runs in .venv-peer."""

import json
import os
import sys
import tempfile
from pathlib import Path

from up42.auth import Auth
from up42.project import Project

from support.point_client import point_client_at


def main(api_url: str, folder: Path) -> None:
    tempfile.tempdir = str(folder)  # the client does not remove its temporary archives
    point_client_at(api_url)
    project_id = os.environ["UP42_PROJECT_ID"]
    auth = Auth(project_id=project_id, project_api_key=os.environ["UP42_PROJECT_API_KEY"])
    for job in Project(auth, project_id).get_jobs(test_jobs=False).jobs:
        into = folder / job.job_id
        job.download_results(into, unpacking=False)
        job.download_quicklooks(into)
        (into / "job_output.json").write_text(json.dumps(job.get_results_json()))
        for task in job.get_jobtasks():
            task.download_results(into / task.jobtask_id)
            (into / task.jobtask_id / "task_output.json").write_text(json.dumps(task.get_results_json()))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
