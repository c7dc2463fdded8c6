"""Write the pages of the documentation that are generated from code: ``python docs/generate.py``."""

from __future__ import annotations

from pathlib import Path

from bulkdl.reactions import EXIT_RANK, REACTIONS, Exit

DOCS = Path(__file__).parent

_FAILURE_POLICY_HEAD = """\
# Failure policy

Generated from the table in `bulkdl/{module}.py` by `make docs`. A test fails if this page is stale.

Every failure has a reason. The reason is written to the log, the ledger and the run report.

- **Temporary**: a later run can succeed without any change.
- **Within the run**: the action of the worker after a failed attempt. `--retries` limits the attempts.
- **Exit code**: the exit code of the run if the failure remains at its end.

If several exit codes apply, the run returns the one with the highest rank:
{rank}. After a signal, the exit code is always 130 or 143.

| reason | temporary | within the run | exit code | what to do |
|---|---|---|---|---|
"""


def failure_policy_page() -> str:
    """Render the failure policy as a Markdown page."""
    rank = " > ".join(str(int(code)) for code in EXIT_RANK)
    head = _FAILURE_POLICY_HEAD.format(module=Exit.__module__.rpartition(".")[2], rank=rank)
    rows = [
        f"| `{reason.value}` | {'yes' if policy.exit_code is Exit.TEMPORARY else 'no'} "
        f"| {policy.step.value} | {int(policy.exit_code)} | {policy.hint} |"
        for reason, policy in REACTIONS.items()
    ]
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    (DOCS / "failure-policy.md").write_text(failure_policy_page(), "utf-8")
