"""
Which endpoint a request was for, told by the shape of its path: a label with few values.

Ids and names never become part of it, so that the number of time series stays what it is however
many jobs there are.
"""

from __future__ import annotations

import re

STORAGE = "storage"
OTHER = "other"

_JOB = r"/projects/[^/]+/jobs/[^/]+"
_TASK = rf"{_JOB}/tasks/[^/]+"
_OWNER = rf"{_JOB}(?:/tasks/[^/]+)?"
_SHAPES = {
    "token": r"/oauth/token",
    "project": r"/projects/[^/]+",
    "jobs": r"/projects/[^/]+/jobs",
    "job": _JOB,
    "tasks": rf"{_JOB}/tasks",
    "sign": rf"{_OWNER}/downloads/results",
    "geojson": rf"{_OWNER}/outputs/data-json",
    "quicklook_list": rf"{_TASK}/outputs/quicklooks",
    "quicklook": rf"{_TASK}/outputs/quicklooks/[^/]+",
}
_SHAPE = re.compile("|".join(rf"(?P<{endpoint}>{shape}/?$)" for endpoint, shape in _SHAPES.items()))

ENDPOINTS = (*_SHAPES, STORAGE, OTHER)


def endpoint_label(method: str, path: str) -> str:
    """
    The endpoint of UP42's API that *path* (percent-encoded, any base before it) belongs to.

    Only tokens are posted for, and where that is can be set.
    """
    if method == "POST":
        return "token"
    found = _SHAPE.search(path)
    return (found and found.lastgroup) or OTHER
