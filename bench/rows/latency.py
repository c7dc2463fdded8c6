from __future__ import annotations

from bench.result import RowResult
from bench.setting import Setting


def run(setting: Setting) -> RowResult:
    raise NotImplementedError
