from __future__ import annotations

import pytest

from bulkdl.errors import ConfigError
from bulkdl.settings import ProjectTable, Settings, load_credentials

ONE = "5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d"
TWO = "8d3a6c1e-0b7f-4e57-a3c9-52f1d7e64b20"
CANARY = "canary-7f3"


def keys(book):
    return {project_id: key.get_secret_value() for project_id, key in book.by_project.items()}


def test_a_project_and_its_key():
    book = load_credentials(Settings(), {"UP42_PROJECT_ID": ONE.upper(), "UP42_PROJECT_API_KEY": CANARY})
    assert keys(book) == {ONE: CANARY}
    assert book.project_ids == (ONE,)
    assert (book.account, book.token) == (None, None)


def test_an_account_and_a_token():
    book = load_credentials(Settings(), {"UP42_USERNAME": "me", "UP42_PASSWORD": CANARY, "UP42_TOKEN": "tok"})
    assert book.account is not None
    assert (book.account[0], book.account[1].get_secret_value()) == ("me", CANARY)
    assert book.token is not None
    assert book.secrets() == [CANARY, "tok"]


def test_tables_come_before_the_environment(tmp_path):
    (tmp_path / "key").write_text(f"\n {CANARY}\r\n")
    settings = Settings(
        projects=(ProjectTable(id=TWO, api_key_file=tmp_path / "key"), ProjectTable(id=ONE, api_key_env="K")),
    )
    book = load_credentials(settings, {"K": "k1", "UP42_PROJECT_ID": ONE, "UP42_PROJECT_API_KEY": "k2"})
    assert keys(book) == {TWO: CANARY, ONE: "k2"}
    assert book.project_ids == (TWO, ONE)


@pytest.mark.parametrize("name", ["UP42_PROJECT_API_KEY", "UP42_PASSWORD", "UP42_TOKEN"])
def test_each_secret_may_be_a_mounted_file(tmp_path, name):
    (tmp_path / "secret").write_text(f"{CANARY}\n")
    env = {"UP42_PROJECT_ID": ONE, "UP42_USERNAME": "me"}
    others = {"UP42_PROJECT_API_KEY": "k", "UP42_PASSWORD": "p", "UP42_TOKEN": "t"}
    others.pop(name)
    book = load_credentials(Settings(), {**env, **others, f"{name}_FILE": str(tmp_path / "secret")})
    assert CANARY in book.secrets()


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({}, "UP42_PROJECT_ID and UP42_PROJECT_API_KEY, or UP42_USERNAME and UP42_PASSWORD, or UP42_TOKEN"),
        ({"UP42_TOKEN": "  "}, "none found"),
        ({"UP42_PROJECT_ID": ONE}, "UP42_PROJECT_API_KEY: is missing"),
        ({"UP42_PROJECT_API_KEY": CANARY}, "UP42_PROJECT_ID: is missing"),
        ({"UP42_PROJECT_API_KEY": CANARY, "UP42_TOKEN": CANARY}, "UP42_PROJECT_ID: is missing"),
        ({"UP42_USERNAME": "me"}, "UP42_PASSWORD: is missing"),
        ({"UP42_PASSWORD": CANARY}, "UP42_USERNAME: is missing"),
        ({"UP42_PROJECT_ID": "demo", "UP42_PROJECT_API_KEY": CANARY}, "UP42_PROJECT_ID: expected an id"),
        ({"UP42_TOKEN_FILE": "/nowhere/token"}, "UP42_TOKEN_FILE: /nowhere/token cannot be read"),
        ({"UP42_TOKEN_FILE": "/dev/null"}, "UP42_TOKEN_FILE: /dev/null is empty"),
        ({"UP42_TOKEN": CANARY, "UP42_TOKEN_FILE": "/x"}, "UP42_TOKEN: is set together with UP42_TOKEN_FILE"),
    ],
)
def test_what_is_missing_is_told_without_what_is_there(env, told):
    with pytest.raises(ConfigError) as caught:
        load_credentials(Settings(), env)
    assert told in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_secret_file_of_bytes_is_told_without_them(tmp_path):
    (tmp_path / "secret").write_bytes(CANARY.encode() + b"\xff")
    with pytest.raises(ConfigError) as caught:
        load_credentials(Settings(), {"UP42_TOKEN_FILE": str(tmp_path / "secret")})
    assert CANARY not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_a_table_whose_variable_is_not_set_is_told():
    settings = Settings(projects=(ProjectTable(id=ONE, api_key_env="K"),))
    with pytest.raises(ConfigError, match=r"projects\[1\].api_key_env: the variable K is not set"):
        load_credentials(settings, {})


def test_a_table_without_a_key_needs_an_account_or_a_token():
    settings = Settings(projects=(ProjectTable(id=ONE),))
    with pytest.raises(ConfigError, match="neither api_key_env nor api_key_file"):
        load_credentials(settings, {})
    assert load_credentials(settings, {"UP42_TOKEN": "t"}).project_ids == (ONE,)


def test_a_project_id_with_an_account_needs_no_key():
    book = load_credentials(Settings(), {"UP42_PROJECT_ID": ONE, "UP42_USERNAME": "me", "UP42_PASSWORD": "p"})
    assert book.project_ids == (ONE,)


def test_the_book_shows_no_secret():
    env = {"UP42_PROJECT_ID": ONE, "UP42_PROJECT_API_KEY": CANARY, "UP42_TOKEN": CANARY}
    assert CANARY not in repr(load_credentials(Settings(), env))
