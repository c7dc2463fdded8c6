"""The entries of a job: one for each feature of each task, and for each output without features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bulkdl.processors.catalog.dates import FeatureDate, find_date, format_instant, parse_instant
from bulkdl.processors.catalog.entry_building import EntryFactory, is_completed, missing_notes, unpack_notes
from bulkdl.processors.catalog.facts import CatalogEntry, CatalogFile, Footprint
from bulkdl.processors.catalog.features import Feature, read_features
from bulkdl.processors.catalog.files import MemberFiles, normalise_path, output_file, stem_of
from bulkdl.processors.catalog.geometry import bbox_differs, read_footprint
from bulkdl.processors.catalog.output_tree import OutputTree, clean
from bulkdl.processors.catalog.records import LedgerContainer, LedgerOutput
from bulkdl.processors.catalog.stac_properties import common_properties

_ARCHIVE, _GEOJSON, _QUICKLOOK = "archive", "geojson", "quicklook"
_MAX_NAME_CHARS = 200


@dataclass(slots=True)
class _Group:
    """
    The outputs of one task, or of the job itself.

    Attributes:
        task: The entry of the task in ``job_tasks.json``; empty if it is not known.
        files: The archive and the GeoJSON file, which all features share; empty lists if they are missing.
    """

    parent: str
    task: Mapping[str, Any]
    archive: LedgerOutput | None = None
    geojson: LedgerOutput | None = None
    quicklooks: list[LedgerOutput] = field(default_factory=list)
    others: list[LedgerOutput] = field(default_factory=list)
    files: dict[str, list[CatalogFile]] = field(default_factory=dict)

    def add(self, output: LedgerOutput) -> None:
        if output.kind == _ARCHIVE:
            self.archive = output
        elif output.kind == _GEOJSON:
            self.geojson = output
        else:
            (self.quicklooks if output.kind == _QUICKLOOK else self.others).append(output)

    @property
    def main(self) -> LedgerOutput | None:
        """The output that decides the state of the entries."""
        return self.archive or self.geojson

    @property
    def all(self) -> list[LedgerOutput]:
        return [
            *(each for each in (self.archive, self.geojson) if each is not None),
            *self.quicklooks,
            *self.others,
        ]


def create_job_entries(container: LedgerContainer, tree: OutputTree) -> tuple[CatalogEntry, ...]:
    """Return all entries of a job."""
    return tuple(_JobEntries(container, tree).create())


class _JobEntries:
    def __init__(self, container: LedgerContainer, tree: OutputTree) -> None:
        self._container = container
        self._tree = tree
        self._factory = EntryFactory(tree, container)
        job = self._read("job")
        self._started_at = _instant(job, "startedAt") or container.created_at
        self._finished_at = _instant(job, "finishedAt") or container.finished_at

    def create(self) -> list[CatalogEntry]:
        entries: list[CatalogEntry] = []
        for group in self._groups():
            entries += self._create_group(group)
        return entries

    def _read(self, name: str) -> Any:
        """Return the content of the document *name*; an empty object if it is missing or invalid."""
        locate = self._container.document_key
        document = self._tree.read_document(locate(name, "")) if locate is not None else None
        data = document.get("data", document) if isinstance(document, dict) else None
        return data if data is not None else {}

    def _groups(self) -> list[_Group]:
        """Return the groups. The job itself is left out if all of its files are files of its tasks."""
        tasks = self._read("job_tasks")
        by_id = {
            task["id"]: task
            for task in (tasks if isinstance(tasks, list) else ())
            if isinstance(task, dict) and isinstance(task.get("id"), str)
        }
        groups: dict[str, _Group] = {}
        for output in self._container.outputs:
            if output.parent not in groups:
                groups[output.parent] = _Group(output.parent, by_id.get(output.parent, {}))
            groups[output.parent].add(output)
        own = groups.pop("", None)
        if own is not None and not self._is_repeated(own, list(groups.values())):
            return [own, *groups.values()]
        return list(groups.values())

    def _is_repeated(self, own: _Group, groups: Sequence[_Group]) -> bool:
        files = {(output.kind, output.digest) for group in groups for output in group.all if output.digest}
        return all((output.kind, output.digest) in files for output in own.all)

    def _create_group(self, group: _Group) -> list[CatalogEntry]:
        notes = [*unpack_notes(group.archive), *missing_notes(group.archive, self._tree)]
        features: list[Feature] = []
        if group.geojson is not None and is_completed(group.geojson, self._tree):
            features = read_features(self._tree.path(group.geojson.key), notes)
        unpacked = None
        if group.archive is not None and group.archive.unpack_state == "completed":
            unpacked = self._tree.unpacked(group.archive.key)
        members = MemberFiles(self._tree, unpacked) if unpacked is not None else None
        pictures = _Pictures(group.quicklooks, self._tree, features)
        shared = self._shared_values(group)
        entries: list[CatalogEntry] = []
        footprints: dict[str, Footprint | None] = {}
        if features:
            for number, feature in enumerate(features):
                entry = self._create_feature(
                    group, feature, number, members, pictures, shared, notes if number == 0 else []
                )
                footprints[feature.id or entry.id] = entry.footprint
                entries.append(entry)
        elif group.main is not None:
            entries.append(self._create_task(group, members, pictures, shared, notes))
        entries += self._create_rest(group, pictures, footprints, shared)
        return entries

    def _shared_values(self, group: _Group) -> dict[str, Any]:
        """Return the attributes that all entries of a task have."""
        task = group.task
        block = task.get("block")
        name = block.get("name") if isinstance(block, dict) else None
        name = clean(name)[:_MAX_NAME_CHARS] if isinstance(name, str) else ""
        version = task.get("blockVersion")
        return {
            "parent_name": _text(task.get("name")),
            "block": name,
            "processing": {
                "processing:facility": "UP42",
                **({"processing:datetime": self._finished_at} if self._finished_at else {}),
                **({"processing:software": {name: _text(version)}} if name and _text(version) else {}),
            },
        }

    def _create_feature(
        self,
        group: _Group,
        feature: Feature,
        number: int,
        members: MemberFiles | None,
        pictures: _Pictures,
        shared: dict[str, Any],
        notes: list[str],
    ) -> CatalogEntry:
        main = group.main
        assert main is not None  # noqa: S101 - the features are those of its GeoJSON output
        notes = [*notes, *feature.notes]
        footprint = read_footprint(feature.geometry, notes)
        found = find_date(feature.properties, self._started_at, self._finished_at)
        files = self._feature_files(group, feature, members, notes)
        picture = pictures.of_feature(number)
        provider = dict(feature.properties)
        if bbox_differs(feature.bbox, footprint):
            provider["up42:bbox"] = feature.bbox
        return self._factory.create(
            main,
            names=[feature.id, stem_of(feature.data_path), str(number + 1)],
            outputs=[group.geojson, *picture],
            files=[*files, *_thumbnails(self._tree, picture), *self._metadata(group)],
            feature_id=feature.id,
            footprint=footprint,
            properties={**_shared_properties(shared), **common_properties(feature.properties)},
            provider_properties=provider,
            **_date_values(found, notes),
            **_names(shared),
        )

    def _create_task(
        self,
        group: _Group,
        members: MemberFiles | None,
        pictures: _Pictures,
        shared: dict[str, Any],
        notes: list[str],
    ) -> CatalogEntry:
        """Return the entry of a task without features."""
        main = group.main
        assert main is not None  # noqa: S101 - checked by the caller
        files = members.remaining(notes) if members is not None else []
        picture = pictures.of_feature(0)
        found = find_date({}, self._started_at, self._finished_at)
        return self._factory.create(
            main,
            names=[_text(group.task.get("name")), main.kind],
            outputs=[group.geojson, *picture],
            files=[
                *files,
                *self._archive(group),
                *_thumbnails(self._tree, picture),
                *self._metadata(group),
            ],
            properties=_shared_properties(shared),
            **_date_values(found, notes),
            **_names(shared),
        )

    def _feature_files(
        self, group: _Group, feature: Feature, members: MemberFiles | None, notes: list[str]
    ) -> list[CatalogFile]:
        if members is not None:
            files = members.find(feature.data_path, notes) if feature.data_path else []
            return [*files, *self._archive(group)]
        return self._archive(group, member=normalise_path(feature.data_path) or "")

    def _archive(self, group: _Group, member: str = "") -> list[CatalogFile]:
        found = self._shared_file(group, group.archive, "archive")
        return [replace(file, member=member) for file in found] if member else found

    def _metadata(self, group: _Group) -> list[CatalogFile]:
        return self._shared_file(group, group.geojson, "metadata", "application/geo+json")

    def _shared_file(
        self, group: _Group, output: LedgerOutput | None, role: str, media_type: str = ""
    ) -> list[CatalogFile]:
        """Return the file of *output* if it exists."""
        if role not in group.files:
            group.files[role] = (
                [output_file(self._tree, output, role, role, media_type=media_type)]
                if output is not None and is_completed(output, self._tree)
                else []
            )
        return group.files[role]

    def _create_rest(
        self,
        group: _Group,
        pictures: _Pictures,
        footprints: Mapping[str, Footprint | None],
        shared: dict[str, Any],
    ) -> list[CatalogEntry]:
        """Return the entries of the outputs without a file, and of the pictures of no feature."""
        found = find_date({}, self._started_at, self._finished_at)
        values = {**_date_values(found, []), **_names(shared)}
        only = next(iter(footprints.values())) if len(footprints) == 1 else None
        entries = []
        for output in group.all:
            if output is group.main or is_completed(output, self._tree):
                continue
            stem = stem_of(output.name)
            entries.append(self._factory.create_problem(output, footprints.get(stem, only), **values))
        for output in (
            *pictures.unmatched(),
            *(each for each in group.others if is_completed(each, self._tree)),
        ):
            files = _thumbnails(self._tree, [output]) if output.kind == _QUICKLOOK else []
            files = files or [output_file(self._tree, output, "data", "data")]
            name = output.name or output.kind
            entries.append(self._factory.create(output, names=[name], files=files, footprint=only, **values))
        return entries


class _Pictures:
    """The completed quicklooks of a task, assigned to its features by their names."""

    def __init__(
        self, quicklooks: Sequence[LedgerOutput], tree: OutputTree, features: Sequence[Feature]
    ) -> None:
        self._completed = [output for output in quicklooks if is_completed(output, tree)]
        self._by_feature: dict[int, list[LedgerOutput]] = {}
        by_name: dict[str, int] = {}
        for position, feature in enumerate(features):
            for name in (stem_of(feature.data_path), feature.id):
                if name:
                    by_name[name] = position
        for output in self._completed:
            stem = stem_of(output.name)
            number = by_name.get(stem, by_name.get(output.name))
            if number is None and len(features) <= 1:
                number = 0
            if number is not None:
                self._by_feature.setdefault(number, []).append(output)

    def of_feature(self, number: int) -> list[LedgerOutput]:
        return self._by_feature.get(number, [])

    def unmatched(self) -> list[LedgerOutput]:
        matched = {id(output) for outputs in self._by_feature.values() for output in outputs}
        return [output for output in self._completed if id(output) not in matched]


def _thumbnails(tree: OutputTree, pictures: Sequence[LedgerOutput]) -> list[CatalogFile]:
    return [
        output_file(tree, picture, "thumbnail" if number == 0 else f"thumbnail-{number + 1}", "thumbnail")
        for number, picture in enumerate(pictures)
    ]


def _date_values(found: FeatureDate, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "datetime": found.datetime,
        "start": found.start,
        "end": found.end,
        "datetime_source": found.source,
        "notes": (*notes, *found.notes),
    }


def _names(shared: Mapping[str, Any]) -> dict[str, Any]:
    return {"parent_name": shared["parent_name"], "block": shared["block"]}


def _shared_properties(shared: Mapping[str, Any]) -> dict[str, Any]:
    return dict(shared["processing"])


def _text(value: object) -> str:
    return value[:_MAX_NAME_CHARS] if isinstance(value, str) else ""


def _instant(document: Any, name: str) -> str:
    found = parse_instant(document.get(name)) if isinstance(document, dict) else None
    return format_instant(found[0]) if found else ""
