"""
Create files and folders below one folder through folder handles.

No path is resolved twice: each part is opened relative to the handle of its folder, without following links.
Nothing in this package creates a link, a device or a FIFO.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeWriter:
    """
    A context manager that creates the new folder *root* and writes below it.

    Names are passed to the system as UTF-8 in any locale. Modes come from the umask only.

    Raises:
        FileExistsError: *root* exists.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._handles: list[int] = []  # of the root, and of the current folder and its parents
        self._current: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        self._root.mkdir()
        self._handles.append(os.open(self._root, _FOLDER_FLAGS))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._handles:
            os.close(self._handles.pop())

    @property
    def root_handle(self) -> int:
        return self._handles[0]

    def make_folder(self, parts: tuple[str, ...]) -> None:
        """
        Create the folder *parts* and its parents unless they exist, and make it the current folder.

        Raises:
            OSError: A part exists and is not a folder, or cannot be created.
        """
        common = 0
        while common < min(len(parts), len(self._current)) and parts[common] == self._current[common]:
            common += 1
        while len(self._handles) > common + 1:
            os.close(self._handles.pop())
        self._current = parts[:common]
        for part in parts[common:]:
            self._handles.append(self._open_folder(part.encode()))
            self._current += (part,)

    def _open_folder(self, name: bytes) -> int:
        parent = self._handles[-1]
        try:
            return os.open(name, _FOLDER_FLAGS, dir_fd=parent)
        except FileNotFoundError:
            os.mkdir(name, dir_fd=parent)
            return os.open(name, _FOLDER_FLAGS, dir_fd=parent)

    def create_file(self, parts: tuple[str, ...]) -> int:
        """
        Create the new file *parts* with its parent folders.

        Returns:
            A handle for writing, which the caller closes.

        Raises:
            OSError: The file exists or cannot be created.
        """
        self.make_folder(parts[:-1])
        return os.open(parts[-1].encode(), _FILE_FLAGS, 0o666, dir_fd=self._handles[-1])
