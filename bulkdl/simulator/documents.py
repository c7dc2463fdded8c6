"""Create the JSON responses of UP42 from the data of the account."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from bulkdl.simulator.account import Feature, SimulatedAccount, SimulatedJob, SimulatedTask

Json = Any


def envelope(data: Json) -> bytes:
    return dump({"data": data, "error": None})


def error_envelope(code: int | str, message: str) -> bytes:
    return dump({"data": None, "error": {"code": code, "message": message, "details": None}})


def dump(document: Json) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def project_document(account: SimulatedAccount, number: int) -> Json:
    project_id = account.project_key(number).id
    stamp = "2019-01-01T08:00:00.000000Z"
    return {
        "id": project_id,
        "displayId": project_id[:8],
        "createdAt": stamp,
        "updatedAt": stamp,
        "name": f"project {number}",
        "description": "",
        "workspaceId": account.user_id,
    }


def job_document(job: SimulatedJob) -> Json:
    author = {"id": job.project_id, "type": "API_KEY"}
    inputs: dict[str, Json] = {task.name: {} for task in job.tasks}
    if job.mode == "DRY_RUN":
        inputs["config"] = {"mode": "DRY_RUN"}
    return {
        "id": job.id,
        "displayId": job.id[:8],
        "createdAt": _micros(job.created_at),
        "updatedAt": _micros(job.finished_at or job.created_at),
        "createdBy": author,
        "updatedBy": author,
        "status": job.status,
        "name": job.name,
        "startedAt": _seconds(job.started_at),
        "finishedAt": _seconds(job.finished_at),
        "inputs": inputs,
        "mode": job.mode,
        "workflowId": job.workflow_id,
        "workflowName": job.workflow_name,
    }


def task_document(job: SimulatedJob, task: SimulatedTask) -> Json:
    return {
        "id": task.id,
        "displayId": task.id[:8],
        "createdAt": _micros(job.created_at),
        "updatedAt": _micros(task.finished_at or job.created_at),
        "name": task.name,
        "status": task.status,
        "parentsIds": list(task.parent_ids),
        "startedAt": _seconds(task.started_at),
        "finishedAt": _seconds(task.finished_at),
        "blockVersion": "1.1.6",
        "block": _block(task),
    }


def data_json(task: SimulatedTask) -> bytes:
    """Return the FeatureCollection of *task*, as in the API response and in its archive."""
    features = [
        {
            "type": "Feature",
            "id": feature.id,
            "bbox": list(feature.bounds),
            "geometry": {"type": "Polygon", "coordinates": [_ring(*feature.bounds)]},
            "properties": _feature_properties(task, feature),
        }
        for feature in task.features
    ]
    return dump({"type": "FeatureCollection", "features": features})


def _feature_properties(task: SimulatedTask, feature: Feature) -> Json:
    properties = {"id": feature.id, "up42.data_path": f"{feature.id}.tif"}
    # As at UP42, blocks that process data do not repeat the properties of the scene.
    return {**properties, "acquisitionDate": _seconds(feature.acquired_at)} if task.is_data else properties


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def _block(task: SimulatedTask) -> Json:
    return {
        "id": task.block_id,
        "createdAt": None,
        "updatedAt": None,
        "name": task.name.partition(":")[0],
        "displayName": None,
        "type": "DATA" if task.is_data else "PROCESSING",
        "isDryRunSupported": None,
        "version": "1.1.6",
        "metadata": None,
        "machineName": None,
        "manifestVersion": 0,
        "capabilities": None,
    }


def _micros(timestamp: datetime) -> str:
    return timestamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _seconds(timestamp: datetime | None) -> str | None:
    return timestamp.strftime("%Y-%m-%dT%H:%M:%SZ") if timestamp else None
