import pytest
from pydantic import SecretStr

from bulkdl.settings import AccountCredentials, AccountTable, CredentialSet, ProjectTable, Settings
from bulkdl.settings.source_choice import choose_sources

PROJECT = ProjectTable(id="5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d", api_key_env="K")
ACCOUNT = AccountTable(name="a", username="u", password_env="P")


@pytest.mark.parametrize(
    ("settings", "env", "expected"),
    [
        ({}, {}, ("jobs",)),
        ({}, {"UP42_PROJECT_ID": "p"}, ("jobs",)),
        ({}, {"UP42_PROJECT_ID_FILE": "p", "UP42_TOKEN": "t"}, ("jobs",)),
        ({}, {"UP42_USERNAME": "u", "UP42_PASSWORD": "p"}, ("storage",)),
        ({}, {"UP42_TOKEN_FILE": "t"}, ("storage",)),
        ({}, {"UP42_USERNAME": " "}, ("jobs",)),
        ({"projects": (PROJECT,)}, {"UP42_USERNAME": "u"}, ("jobs",)),
        ({"accounts": (ACCOUNT,)}, {}, ("storage",)),
        ({"accounts": (ACCOUNT,), "projects": (PROJECT,)}, {}, ("jobs", "storage")),
        ({"accounts": (ACCOUNT,)}, {"UP42_PROJECT_ID": "p"}, ("jobs", "storage")),
        ({"source": "storage, jobs,jobs"}, {}, ("storage", "jobs")),
        ({"source": "storage", "projects": (PROJECT,)}, {}, ("storage",)),
        ({"source": "jobs", "accounts": (ACCOUNT,)}, {}, ("jobs",)),
    ],
)
def test_choose_sources_returns_the_sources_with_credentials(settings, env, expected):
    assert choose_sources(Settings(**settings), env=env) == expected


@pytest.mark.parametrize(
    ("credentials", "expected"),
    [
        (CredentialSet(token=SecretStr("t")), ("jobs",)),
        (CredentialSet(accounts=(AccountCredentials("a", token=SecretStr("t")),)), ("storage",)),
        (
            CredentialSet(project_ids=("p",), accounts=(AccountCredentials("a", token=SecretStr("t")),)),
            ("jobs", "storage"),
        ),
    ],
)
def test_choose_sources_with_given_credentials_ignores_the_environment(credentials, expected):
    assert choose_sources(Settings(), credentials=credentials, env={"UP42_PROJECT_ID": "p"}) == expected


@pytest.mark.parametrize("source", ["auto,jobs", ",", "jobs,unknown"])
def test_settings_reject_an_invalid_list_of_sources(source):
    with pytest.raises(ValueError, match="expected"):
        Settings(source=source)
