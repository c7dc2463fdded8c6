"""Several projects with one key each, accounts, and tokens from the environment."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bulkdl.simulator import SimulatedAccount
from support.cli_runs import BulkdlProcess, CliEnvironment, cli_environment
from support.fault_runs import files_by_output, identity

ACCOUNT = SimulatedAccount(projects=3, jobs=6, archive_bytes=3_000)
WRONG = "Wrong.key-that-must-be-masked"
JSON = ("--format", "json")
USER = {"UP42_USERNAME": "someone@example.com", "UP42_PASSWORD": "correct horse"}
SECONDS = 10.0


def tables(folder: Path, keys: Sequence[str]) -> dict[str, str]:
    """Write a config with one project per key: the first key in a variable, the others in files."""
    config, env = [], {"BULKDL_CONFIG": str(folder / "bulkdl.toml")}
    for number, key in enumerate(keys):
        where = f'api_key_file = "keys/{number}"' if number else 'api_key_env = "KEY_OF_THE_FIRST"'
        config.append(f'[[projects]]\nid = "{ACCOUNT.project_key(number).id}"\n{where}\n')
        (folder / "keys").mkdir(exist_ok=True)
        (folder / "keys" / str(number)).write_text(f"{key}\n")
        env["KEY_OF_THE_FIRST"] = keys[0]
    (folder / "bulkdl.toml").write_text("\n".join(config))
    return env


def keys_with(wrong: Sequence[int]) -> list[str]:
    return [
        WRONG if number in wrong else ACCOUNT.project_key(number).api_key
        for number in range(ACCOUNT.projects)
    ]


def projects_of(*numbers: int) -> list[str]:
    return [word for number in numbers for word in ("-p", ACCOUNT.project_key(number).id)]


def missing_projects(here: CliEnvironment) -> set[int | None]:
    """Return the numbers of the projects with missing outputs."""
    there = files_by_output(here.root)
    ids = {each.project_id for each in here.simulator.expected_outputs() if identity(each) not in there}
    return {here.simulator.account.project_number(project_id) for project_id in ids}


def shows_no_secret(run: BulkdlProcess, here: CliEnvironment, *secrets: str) -> bool:
    files = [path.read_bytes().decode("utf-8", "replace") for path in here.root.rglob("*") if path.is_file()]
    text = run.out + run.log + "".join(files)
    return not any(secret in text for secret in (*keys_with(()), WRONG, *secrets))


async def test_run_reads_project_keys_from_variables_and_files(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT, **tables(tmp_path, keys_with(()))) as here:
        ran = await here.bulkdl(*JSON)
        assert ran.process.returncode == 0, ran.log
        assert here.has_complete_output()
        assert len(here.requests_to("token")) == ACCOUNT.projects
        assert shows_no_secret(ran, here)


@pytest.mark.parametrize("refused", [0, 2])
async def test_run_with_a_rejected_project_key_downloads_the_other_projects(
    tmp_path: Path, refused: int
) -> None:
    async with cli_environment(tmp_path, ACCOUNT, **tables(tmp_path, keys_with([refused]))) as here:
        ran = await here.bulkdl(*JSON)
        assert ran.process.returncode == 3
        assert ran.has_clean_stderr()
        (problem,) = ran.summary["problems"]
        assert problem["reason"] == "credentials"
        assert ACCOUNT.project_key(refused).id in problem["subject"]
        assert "API key" in problem["hint"]
        assert missing_projects(here) == {refused}
        assert here.find_wrong_files() == []
        assert not (here.root / ACCOUNT.project_key(refused).id).exists()
        # The run sends no second request with a rejected key, and no list request without a token.
        assert len(here.requests_to("token")) == ACCOUNT.projects
        assert all(ACCOUNT.project_key(refused).id not in each.path for each in here.requests_to("jobs"))
        assert here.has_consistent_state(3)
        assert shows_no_secret(ran, here)
        tables(tmp_path, keys_with(()))
        again = await here.bulkdl(*JSON, KEY_OF_THE_FIRST=keys_with(())[0])
        assert again.process.returncode == 0
        assert here.has_complete_output()


async def test_run_with_all_keys_rejected_exits_with_7_within_seconds(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT, **tables(tmp_path, keys_with([0, 1, 2]))) as here:
        begun_s = time.monotonic()
        ran = await here.bulkdl()
        assert time.monotonic() - begun_s < SECONDS
        assert ran.process.returncode == 7
        assert ran.has_clean_stderr()
        assert len(here.requests_to("token")) == ACCOUNT.projects
        assert len(here.simulator.requests) == ACCOUNT.projects
        assert shows_no_secret(ran, here)


async def test_run_exit_code_depends_only_on_the_selected_projects(tmp_path: Path) -> None:
    """Only project 1 has a rejected key."""
    async with cli_environment(tmp_path, ACCOUNT, **tables(tmp_path, keys_with([1]))) as here:
        assert (await here.bulkdl(*projects_of(1))).process.returncode == 7
        assert (await here.bulkdl(*projects_of(2))).process.returncode == 0
        assert missing_projects(here) == {0, 1}


async def test_run_with_an_account_downloads_every_selected_project(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT, **USER) as here:
        ran = await here.bulkdl(*projects_of(0, 1))
        assert ran.process.returncode == 0, ran.log
        assert len(here.requests_to("token")) == 1
        assert missing_projects(here) == {2}
        assert shows_no_secret(ran, here, USER["UP42_PASSWORD"])
        result = await here.bulkdl()
        assert result.process.returncode == 2
        assert "name a project" in result.log


async def test_run_with_an_account_uses_it_for_projects_without_a_key(tmp_path: Path) -> None:
    env = tables(tmp_path, keys_with(())[:1])
    (tmp_path / "password").write_text("correct horse\n")
    config = tmp_path / "bulkdl.toml"
    config.write_text(f'{config.read_text()}\n[[projects]]\nid = "{ACCOUNT.project_key(1).id}"\n')
    env |= {"UP42_USERNAME": USER["UP42_USERNAME"], "UP42_PASSWORD_FILE": str(tmp_path / "password")}
    async with cli_environment(tmp_path, ACCOUNT, **env) as here:
        ran = await here.bulkdl()
        assert ran.process.returncode == 0, ran.log
        assert len(here.requests_to("token")) == 2
        assert missing_projects(here) == {2}


async def test_run_with_a_wrong_password_exits_with_7(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT, **{**USER, "UP42_PASSWORD": WRONG}) as here:
        ran = await here.bulkdl(*projects_of(0, 1, 2))
        assert ran.process.returncode == 7
        assert [each.endpoint for each in here.simulator.requests] == ["token"]
        assert shows_no_secret(ran, here)


@pytest.mark.parametrize(("life_s", "code"), [(300.0, 0), (-1.0, 7)], ids=["alive", "expired"])
async def test_run_with_a_token_completes_until_the_token_expires(
    tmp_path: Path, life_s: float, code: int
) -> None:
    facts = {"token_lifetime_s": life_s}
    async with cli_environment(tmp_path, ACCOUNT, simulator_options=facts, **USER) as here:
        token = here.simulator._tokens._issue(None)
        env = {"UP42_TOKEN": token, "UP42_USERNAME": "", "UP42_PASSWORD": ""}
        ran = await here.bulkdl(*projects_of(0, 1, 2), **env)
        assert ran.process.returncode == code, ran.log
        assert ran.has_clean_stderr()
        assert here.requests_to("token") == []
        assert here.find_missing_outputs() == [] or code == 7
        assert shows_no_secret(ran, here, token, token.rpartition(".")[2])


async def test_run_whose_token_expires_exits_with_7_and_keeps_completed_files(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT, **USER) as here:
        env = {
            "UP42_TOKEN": here.simulator._tokens._issue(None),
            "UP42_USERNAME": "",
            "UP42_PASSWORD": "",
        }
        here.set_faults({"fault": "revoke_tokens", "endpoint": "quicklook", "nth": 3, "per": "all"})
        ran = await here.bulkdl(*projects_of(0, 1, 2), "--quicklook-concurrency", "1", *JSON, **env)
        assert ran.process.returncode == 7
        assert {each["reason"] for each in ran.summary["failures"] + ran.summary["problems"]} == {
            "credentials"
        }
        assert here.has_consistent_state(7)
        here.set_faults()
        env["UP42_TOKEN"] = here.simulator._tokens._issue(None)
        again = await here.bulkdl(*projects_of(0, 1, 2), **env)
        assert again.process.returncode == 0
        assert here.has_complete_output()
