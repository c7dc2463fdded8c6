"""
Label API requests by the shape of their path, with few different values.

A label never contains an ID or a name, so the number of time series does not depend on the number of jobs.
``client.py`` builds the paths that are recognised here.
"""

from __future__ import annotations

import re

from yarl import URL

OTHER = "other"

_JOB = r"/projects/[^/]+/jobs/[^/]+"
_TASK = rf"{_JOB}/tasks/[^/]+"
_JOB_OR_TASK = rf"{_JOB}(?:/tasks/[^/]+)?"
_SHAPES = {
    "token": r"/oauth/token",
    "project": r"/projects/[^/]+",
    "jobs": r"/projects/[^/]+/jobs",
    "job": _JOB,
    "tasks": rf"{_JOB}/tasks",
    "sign": rf"{_JOB_OR_TASK}/downloads/results",
    "geojson": rf"{_JOB_OR_TASK}/outputs/data-json",
    "quicklook_list": rf"{_TASK}/outputs/quicklooks",
    "quicklook": rf"{_TASK}/outputs/quicklooks/[^/]+",
}
_SHAPE = re.compile("|".join(rf"(?P<{endpoint}>{shape}/?$)" for endpoint, shape in _SHAPES.items()))

API_ENDPOINTS = tuple(_SHAPES)


def endpoint_label(method: str, url: URL) -> str:
    """
    Return the endpoint of the UP42 API that *url* belongs to, with any base path.

    Only token requests use POST. The path of the token endpoint is a setting.
    """
    if method == "POST":
        return "token"
    match = _SHAPE.search(url.raw_path)
    return (match and match.lastgroup) or OTHER
