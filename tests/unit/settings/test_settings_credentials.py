from __future__ import annotations

import pytest

from bulkdl.errors import ConfigError
from bulkdl.settings import (
    AccountTable,
    ProjectTable,
    Settings,
    load_account_credentials,
    load_credentials,
)

ONE = "5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d"
TWO = "8d3a6c1e-0b7f-4e57-a3c9-52f1d7e64b20"
CANARY = "canary-7f3"


def keys(credentials):
    return {project_id: key.get_secret_value() for project_id, key in credentials.by_project.items()}


def test_load_credentials_with_a_project_returns_its_key():
    credentials = load_credentials(
        Settings(), {"UP42_PROJECT_ID": ONE.upper(), "UP42_PROJECT_API_KEY": CANARY}
    )
    assert keys(credentials) == {ONE: CANARY}
    assert credentials.project_ids == (ONE,)
    assert (credentials.account, credentials.token) == (None, None)


def test_load_credentials_with_an_account_and_a_token_returns_both():
    credentials = load_credentials(
        Settings(), {"UP42_USERNAME": "me", "UP42_PASSWORD": CANARY, "UP42_TOKEN": "tok"}
    )
    assert credentials.account is not None
    assert (credentials.account[0], credentials.account[1].get_secret_value()) == ("me", CANARY)
    assert credentials.token is not None
    assert credentials.secrets() == [CANARY, "tok"]


def test_load_credentials_prefers_tables_to_the_environment(tmp_path):
    (tmp_path / "key").write_text(f"\n {CANARY}\r\n")
    settings = Settings(
        projects=(ProjectTable(id=TWO, api_key_file=tmp_path / "key"), ProjectTable(id=ONE, api_key_env="K")),
    )
    credentials = load_credentials(
        settings, {"K": "k1", "UP42_PROJECT_ID": ONE, "UP42_PROJECT_API_KEY": "k2"}
    )
    assert keys(credentials) == {TWO: CANARY, ONE: "k2"}
    assert credentials.project_ids == (TWO, ONE)


@pytest.mark.parametrize("name", ["UP42_PROJECT_API_KEY", "UP42_PASSWORD", "UP42_TOKEN"])
def test_load_credentials_reads_a_secret_from_a_file(tmp_path, name):
    (tmp_path / "secret").write_text(f"{CANARY}\n")
    env = {"UP42_PROJECT_ID": ONE, "UP42_USERNAME": "me"}
    others = {"UP42_PROJECT_API_KEY": "k", "UP42_PASSWORD": "p", "UP42_TOKEN": "t"}
    others.pop(name)
    credentials = load_credentials(Settings(), {**env, **others, f"{name}_FILE": str(tmp_path / "secret")})
    assert CANARY in credentials.secrets()


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({}, "UP42_PROJECT_ID and UP42_PROJECT_API_KEY, or UP42_USERNAME and UP42_PASSWORD, or UP42_TOKEN"),
        ({"UP42_TOKEN": "  "}, "none found"),
        ({"UP42_PROJECT_ID": ONE}, "UP42_PROJECT_API_KEY: is missing"),
        ({"UP42_PROJECT_API_KEY": CANARY}, "UP42_PROJECT_ID: is missing"),
        ({"UP42_PROJECT_API_KEY": CANARY, "UP42_TOKEN": CANARY}, "UP42_PROJECT_ID: is missing"),
        ({"UP42_USERNAME": "me"}, "UP42_PASSWORD: is missing"),
        ({"UP42_PASSWORD": CANARY}, "UP42_USERNAME: is missing"),
        ({"UP42_PROJECT_ID": "demo", "UP42_PROJECT_API_KEY": CANARY}, "UP42_PROJECT_ID: expected an ID"),
        ({"UP42_TOKEN_FILE": "/nowhere/token"}, "UP42_TOKEN_FILE: /nowhere/token cannot be read"),
        ({"UP42_TOKEN_FILE": "/dev/null"}, "UP42_TOKEN_FILE: /dev/null is empty"),
        ({"UP42_TOKEN": CANARY, "UP42_TOKEN_FILE": "/x"}, "UP42_TOKEN: is set together with UP42_TOKEN_FILE"),
    ],
)
def test_load_credentials_with_a_missing_variable_names_it_and_hides_the_others(env, message):
    with pytest.raises(ConfigError) as caught:
        load_credentials(Settings(), env)
    assert message in str(caught.value)
    assert CANARY not in str(caught.value)


def test_load_credentials_with_a_binary_file_hides_its_content(tmp_path):
    (tmp_path / "secret").write_bytes(CANARY.encode() + b"\xff")
    with pytest.raises(ConfigError) as caught:
        load_credentials(Settings(), {"UP42_TOKEN_FILE": str(tmp_path / "secret")})
    assert CANARY not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_load_credentials_with_a_table_of_an_unset_variable_fails():
    settings = Settings(projects=(ProjectTable(id=ONE, api_key_env="K"),))
    with pytest.raises(ConfigError, match=r"projects\[1\].api_key_env: the variable K is not set"):
        load_credentials(settings, {})


def test_load_credentials_with_a_table_without_a_key_needs_an_account_or_a_token():
    settings = Settings(projects=(ProjectTable(id=ONE),))
    with pytest.raises(ConfigError, match="neither api_key_env nor api_key_file"):
        load_credentials(settings, {})
    assert load_credentials(settings, {"UP42_TOKEN": "t"}).project_ids == (ONE,)


def test_load_credentials_with_an_account_needs_no_project_key():
    credentials = load_credentials(
        Settings(), {"UP42_PROJECT_ID": ONE, "UP42_USERNAME": "me", "UP42_PASSWORD": "p"}
    )
    assert credentials.project_ids == (ONE,)


def test_credential_set_hides_secrets_in_its_repr():
    env = {"UP42_PROJECT_ID": ONE, "UP42_PROJECT_API_KEY": CANARY, "UP42_TOKEN": CANARY}
    assert CANARY not in repr(load_credentials(Settings(), env))


def test_load_account_credentials_reads_tables_and_the_environment(tmp_path):
    (tmp_path / "password").write_text(f"{CANARY}\n")
    settings = Settings(
        accounts=(
            AccountTable(name="maps", username="m@x", password_env="MAPS"),
            AccountTable(name="archive", username="a@x", password_file=tmp_path / "password"),
        )
    )
    env = {"MAPS": "p1", "UP42_USERNAME": "me", "UP42_PASSWORD": "p2"}
    credentials = load_account_credentials(settings, env)
    assert [(account.name, account.username) for account in credentials.accounts] == [
        ("maps", "m@x"),
        ("archive", "a@x"),
        ("account", "me"),
    ]
    assert credentials.secrets() == ["p1", CANARY, "p2"]
    assert CANARY not in repr(credentials)


def test_load_account_credentials_prefers_a_token_to_a_password():
    env = {"UP42_TOKEN": "tok", "UP42_USERNAME": "me", "UP42_PASSWORD": CANARY}
    (account,) = load_account_credentials(Settings(), env).accounts
    assert account.secrets() == ["tok"]


@pytest.mark.parametrize(
    ("tables", "env", "where"),
    [
        ([], {}, "credentials"),
        ([], {"UP42_USERNAME": "me"}, "UP42_PASSWORD"),
        ([AccountTable(name="a", username="u", password_env="P")], {}, "accounts[1].password_env"),
        ([AccountTable(name="a", username="u", password_env="P")] * 2, {"P": "p"}, "accounts"),
    ],
)
def test_load_account_credentials_that_are_incomplete_are_rejected(tables, env, where):
    with pytest.raises(ConfigError) as caught:
        load_account_credentials(Settings(accounts=tuple(tables)), env)
    assert caught.value.where == where


@pytest.mark.parametrize("fields", [{}, {"password_env": "P", "password_file": "f"}])
def test_account_table_needs_one_password_source(fields):
    with pytest.raises(ValueError, match="expected one of"):
        AccountTable(name="a", username="u", **fields)
