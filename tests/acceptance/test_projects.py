"""Several projects with one key each, accounts, and tokens from the environment."""

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


def missing_projects(environment: CliEnvironment) -> set[int | None]:
    """Return the numbers of the projects with missing outputs."""
    there = files_by_output(environment.root)
    ids = {
        output.project_id
        for output in environment.simulator.expected_outputs()
        if identity(output) not in there
    }
    return {environment.simulator.account.project_number(project_id) for project_id in ids}


def shows_no_secret(run: BulkdlProcess, environment: CliEnvironment, *secrets: str) -> bool:
    files = [
        path.read_bytes().decode("utf-8", "replace") for path in environment.root.rglob("*") if path.is_file()
    ]
    text = run.out + run.log + "".join(files)
    return not any(secret in text for secret in (*keys_with(()), WRONG, *secrets))


async def test_run_reads_project_keys_from_variables_and_files(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT, **tables(tmp_path, keys_with(()))) as environment:
        process = await environment.bulkdl(*JSON)
        assert process.process.returncode == 0, process.log
        assert environment.has_complete_output()
        assert len(environment.requests_to("token")) == ACCOUNT.projects
        assert shows_no_secret(process, environment)


@pytest.mark.parametrize("refused", [0, 2])
async def test_run_with_a_rejected_project_key_downloads_the_other_projects(
    tmp_path: Path, refused: int
) -> None:
    async with cli_environment(tmp_path, ACCOUNT, **tables(tmp_path, keys_with([refused]))) as environment:
        process = await environment.bulkdl(*JSON)
        assert process.process.returncode == 3
        assert process.has_clean_stderr()
        (problem,) = process.summary["problems"]
        assert problem["reason"] == "credentials"
        assert ACCOUNT.project_key(refused).id in problem["subject"]
        assert "API key" in problem["detail"]
        assert "check the credentials" in problem["hint"]
        assert missing_projects(environment) == {refused}
        assert environment.find_wrong_files() == []
        assert not (environment.root / ACCOUNT.project_key(refused).id).exists()
        # The run sends no second request with a rejected key, and no list request without a token.
        assert len(environment.requests_to("token")) == ACCOUNT.projects
        assert all(
            ACCOUNT.project_key(refused).id not in request.path for request in environment.requests_to("jobs")
        )
        assert environment.has_consistent_state(3)
        assert shows_no_secret(process, environment)
        tables(tmp_path, keys_with(()))
        again = await environment.bulkdl(*JSON, KEY_OF_THE_FIRST=keys_with(())[0])
        assert again.process.returncode == 0
        assert environment.has_complete_output()


async def test_run_with_all_keys_rejected_exits_with_7_without_a_retry(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT, **tables(tmp_path, keys_with([0, 1, 2]))) as environment:
        process = await environment.bulkdl()
        assert process.process.returncode == 7
        assert process.has_clean_stderr()
        assert len(environment.requests_to("token")) == ACCOUNT.projects
        assert len(environment.simulator.requests) == ACCOUNT.projects
        assert shows_no_secret(process, environment)


async def test_run_exit_code_depends_only_on_the_selected_projects(tmp_path: Path) -> None:
    """Only project 1 has a rejected key."""
    async with cli_environment(tmp_path, ACCOUNT, **tables(tmp_path, keys_with([1]))) as environment:
        assert (await environment.bulkdl(*projects_of(1))).process.returncode == 7
        assert (await environment.bulkdl(*projects_of(2))).process.returncode == 0
        assert missing_projects(environment) == {0, 1}


async def test_run_with_an_account_downloads_every_selected_project(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT, **USER) as environment:
        process = await environment.bulkdl(*projects_of(0, 1))
        assert process.process.returncode == 0, process.log
        assert len(environment.requests_to("token")) == 1
        assert missing_projects(environment) == {2}
        assert shows_no_secret(process, environment, USER["UP42_PASSWORD"])
        # Without --source, an account without a project selects the storage of the account.
        result = await environment.bulkdl("--source", "jobs")
        assert result.process.returncode == 2
        assert "name a project" in result.log


async def test_run_with_an_account_uses_it_for_projects_without_a_key(tmp_path: Path) -> None:
    env = tables(tmp_path, keys_with(())[:1])
    (tmp_path / "password").write_text("correct horse\n")
    config = tmp_path / "bulkdl.toml"
    config.write_text(f'{config.read_text()}\n[[projects]]\nid = "{ACCOUNT.project_key(1).id}"\n')
    env |= {"UP42_USERNAME": USER["UP42_USERNAME"], "UP42_PASSWORD_FILE": str(tmp_path / "password")}
    async with cli_environment(tmp_path, ACCOUNT, **env) as environment:
        process = await environment.bulkdl()
        assert process.process.returncode == 0, process.log
        assert len(environment.requests_to("token")) == 2
        assert missing_projects(environment) == {2}


async def test_run_with_a_wrong_password_exits_with_7(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT, **{**USER, "UP42_PASSWORD": WRONG}) as environment:
        process = await environment.bulkdl(*projects_of(0, 1, 2))
        assert process.process.returncode == 7
        assert [request.endpoint for request in environment.simulator.requests] == ["token"]
        assert shows_no_secret(process, environment)


@pytest.mark.parametrize(("life_s", "code"), [(300.0, 0), (-1.0, 7)], ids=["alive", "expired"])
async def test_run_with_a_token_completes_until_the_token_expires(
    tmp_path: Path, life_s: float, code: int
) -> None:
    facts = {"token_lifetime_s": life_s}
    async with cli_environment(tmp_path, ACCOUNT, simulator_options=facts, **USER) as environment:
        token = environment.simulator._tokens._issue(None)
        env = {"UP42_TOKEN": token, "UP42_USERNAME": "", "UP42_PASSWORD": ""}
        process = await environment.bulkdl(*projects_of(0, 1, 2), **env)
        assert process.process.returncode == code, process.log
        assert process.has_clean_stderr()
        assert environment.requests_to("token") == []
        assert environment.find_missing_outputs() == [] or code == 7
        assert shows_no_secret(process, environment, token, token.rpartition(".")[2])


async def test_run_whose_token_expires_exits_with_7_and_keeps_completed_files(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT, **USER) as environment:
        env = {
            "UP42_TOKEN": environment.simulator._tokens._issue(None),
            "UP42_USERNAME": "",
            "UP42_PASSWORD": "",
        }
        environment.set_faults({"fault": "revoke_tokens", "endpoint": "quicklook", "nth": 3, "per": "all"})
        process = await environment.bulkdl(
            *projects_of(0, 1, 2), "--quicklook-concurrency", "1", *JSON, **env
        )
        assert process.process.returncode == 7
        assert {entry["reason"] for entry in process.summary["failures"] + process.summary["problems"]} == {
            "credentials"
        }
        assert environment.has_consistent_state(7)
        environment.set_faults()
        env["UP42_TOKEN"] = environment.simulator._tokens._issue(None)
        again = await environment.bulkdl(*projects_of(0, 1, 2), **env)
        assert again.process.returncode == 0
        assert environment.has_complete_output()
