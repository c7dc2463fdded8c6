"""
Write the source of the documentation site: all pages, with links that are valid inside the site.

The pages are written for the repository. The root pages become pages of the site, and files that pages link
to, such as example settings, are copied. A link to another directory becomes text.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)

API_PAGE = """# Python library

All names are exported by `bulkdl`. [Extending bulkdl](extending.md) describes the interfaces for sources,
destinations and processors with examples.

::: bulkdl
    options:
      show_root_heading: false
      show_root_toc_entry: false
      members: [{names}]
"""


def find_pages() -> dict[Path, Path]:
    """Return all pages of the repository with their paths in the site."""
    pages = {ROOT / name: Path(target) for name, target in ROOT_PAGES.items()}
    documents = sorted((ROOT / "docs").rglob("*.md"))
    return pages | {path: path.relative_to(ROOT / "docs") for path in documents}


def convert(text: str, source: Path, pages: Mapping[Path, Path], target: Path) -> str:
    """Return *text* of the page *source* with the links of the site. Copies the files that it links to."""

    def replace(match: re.Match[str]) -> str:
        image, label, link = match.groups()
        if "://" in link or link.startswith(("#", "mailto:")):
            return match[0]
        path_text, _, anchor = link.partition("#")
        path = (source.parent / path_text).resolve()
        new_path = find_target(path, pages, target)
        if new_path is None:
            return label
        relative = os.path.relpath(new_path, pages[source].parent)
        return f"{image}[{label}]({relative}{'#' * bool(anchor)}{anchor})"

    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(replace, part) for part in parts)


def find_target(path: Path, pages: Mapping[Path, Path], target: Path) -> Path | None:
    """Return the path in the site for the linked *path*; None for a directory without a page."""
    if path in pages:
        return pages[path]
    if path == ROOT / "docs" / "decisions":
        return Path("decisions/index.md")
    if not path.is_relative_to(ROOT) or not path.exists():
        raise FileNotFoundError(f"{path}: not found; a page links to it")
    if path.is_dir():
        return None
    inside = path.relative_to(ROOT)
    new_path = inside.relative_to("docs") if inside.parts[0] == "docs" else Path("files") / inside
    (target / new_path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target / new_path)
    return new_path


def decision_index(pages: Mapping[Path, Path]) -> str:
    """Return the page that lists the decisions."""
    lines = ["# Decisions", ""]
    for source, page in pages.items():
        if page.parent.name == "decisions":
            title = source.read_text("utf-8").partition("\n")[0].removeprefix("# ")
            lines.append(f"- [{title}]({page.name})")
    return "\n".join([*lines, ""])


def api_page() -> str:
    """Return the page of the public names of the package."""
    text = (ROOT / "bulkdl" / "__init__.py").read_text("utf-8")
    names = re.findall(r'"(\w+)"', text.split("__all__ = [")[1].split("]")[0])
    return API_PAGE.format(names=", ".join(name for name in names if name != "__version__"))


def check_navigation(pages: Mapping[Path, Path]) -> None:
    """Raise ValueError if the navigation of the site does not contain a page."""
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in pages.values():
        if page.parent == Path() and f"- {page}\n" not in navigation:
            raise ValueError(f"mkdocs.yml: the navigation does not contain {page}; add it")


def main(target: Path) -> None:
    """Write the source of the site to *target*."""
    shutil.rmtree(target, ignore_errors=True)
    pages = find_pages()
    check_navigation(pages)
    for source, page in pages.items():
        path = target / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(convert(source.read_text("utf-8"), source, pages, target), "utf-8")
    shutil.copyfile(ROOT / "docs" / "site.css", target / "site.css")
    (target / "decisions" / "index.md").write_text(decision_index(pages), "utf-8")
    (target / "library.md").write_text(api_page(), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
