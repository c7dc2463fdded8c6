import asyncio
import base64

import aiohttp
import pytest
from aioresponses import CallbackResult
from pydantic import SecretStr

from bulkdl.errors import ApiError
from bulkdl.models import Reason
from bulkdl.sources.up42_common.auth import parse_grant
from bulkdl.sources.up42_common.credentials import Account, ProjectKey, StaticToken
from support.idle import wait_until_idle

API = "https://api.example"
TOKEN_URL = f"{API}/oauth/token"


def _posts(kit):
    return sum(len(calls) for (verb, _), calls in kit.api.requests.items() if verb == "POST")


def _sent(kit):
    return next(calls[-1].kwargs for (verb, _), calls in kit.api.requests.items() if verb == "POST")


class Gate:
    """A token endpoint that responds after ``open`` is set."""

    def __init__(self, kit, **fields):
        self.open, self.requests, self.fields = asyncio.Event(), 0, fields
        kit.api.post(TOKEN_URL, callback=self._respond, repeat=True)

    async def _respond(self, url, **kwargs):
        self.requests += 1
        number = self.requests
        await self.open.wait()
        return CallbackResult(payload={"access_token": f"T{number}", **self.fields})


async def _failure(awaitable):
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


async def test_token_project_key_is_sent_as_basic_authorization_only(kit):
    kit.grant("T1")
    assert await kit.tokens().token() == "T1"
    sent = _sent(kit)
    basic = sent["headers"]["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(basic) == b"p1:abcdEFGH.canary0123456789012345678901234567"
    assert sent["data"] == {"grant_type": "client_credentials"}
    assert sent["allow_redirects"] is False


async def test_token_account_is_sent_as_form(kit):
    kit.grant("T1")
    assert await kit.tokens(Account("me@x", SecretStr("p&w"))).token() == "T1"
    assert _sent(kit)["data"] == {"grant_type": "password", "username": "me@x", "password": "p&w"}
    assert "Authorization" not in _sent(kit)["headers"]


async def test_token_account_with_client_id_sends_it_in_the_form(kit):
    kit.grant("T1")
    assert await kit.tokens(Account("me@x", SecretStr("p&w")), client_id="up42-api").token() == "T1"
    assert _sent(kit)["data"] == {
        "grant_type": "password",
        "username": "me@x",
        "password": "p&w",
        "client_id": "up42-api",
    }


@pytest.mark.parametrize(
    ("status", "code", "description", "expected"),
    [
        (401, "invalid_grant", "Invalid user credentials", "Invalid user credentials (invalid_grant: check"),
        (400, "invalid_grant", "Account is not fully set up", "Account is not fully set up (invalid_grant"),
        (401, "invalid_client", None, "invalid_client (invalid_client: check the project ID"),
        (400, "unsupported_grant_type", None, "does not support this type of login"),
    ],
)
async def test_token_oauth_error_is_permanent_and_explained(kit, status, code, description, expected):
    kit.api.post(TOKEN_URL, status=status, payload={"error": code, "error_description": description})
    tokens = kit.tokens(Account("me@x", SecretStr("canary-password")), client_id="up42-api")
    for _ in range(2):
        failure = await _failure(tokens.token())
        assert failure.reason is Reason.CREDENTIALS
        assert expected in failure.detail
        assert "canary-password" not in failure.detail
    assert _posts(kit) == 1


@pytest.mark.parametrize(
    ("credentials", "expected"),
    [
        (ProjectKey("p", SecretStr("key")), "401 not accepted (check the project ID and its API key)"),
        (Account("me@x", SecretStr("password")), "401 not accepted (check the user name and the password)"),
    ],
)
async def test_token_rejection_without_an_oauth_code_states_what_to_check(kit, credentials, expected):
    kit.api.post(TOKEN_URL, status=401, payload={"message": "not accepted"})
    assert expected in (await _failure(kit.tokens(credentials).token())).detail


@pytest.mark.parametrize(("life_s", "usable_s"), [(300, 270), (100, 90), (1, 0.9), (0.1, 0.09)])
async def test_token_is_renewed_shortly_before_it_expires(kit, life_s, usable_s):
    kit.grant("T1", "T2", expires_in=life_s)
    tokens = kit.tokens()
    assert await tokens.token() == "T1"
    kit.timeline.now += usable_s * 0.99
    assert await tokens.token() == "T1"
    kit.timeline.now += usable_s * 0.02
    assert await tokens.token() == "T2"


async def test_token_lifetime_starts_at_the_request_not_at_the_response(kit):
    def slow(url, **kwargs):
        kit.timeline.now += 280
        return CallbackResult(payload={"access_token": "T1"})

    kit.api.post(TOKEN_URL, callback=slow)
    kit.grant("T2")
    tokens = kit.tokens()
    assert await tokens.token() == "T1"
    assert await tokens.token() == "T2"


async def test_token_concurrent_callers_share_one_renewal(kit):
    gate, tokens = Gate(kit), kit.tokens()
    waiting = [asyncio.create_task(tokens.token()) for _ in range(50)]
    await wait_until_idle()
    gate.open.set()
    assert set(await asyncio.gather(*waiting)) == {"T1"}
    assert gate.requests == 1


async def test_token_without_lifetime_is_returned_to_all_waiting_callers(kit):
    gate, tokens = Gate(kit, expires_in=0), kit.tokens()
    waiting = [asyncio.create_task(tokens.token()) for _ in range(50)]
    await wait_until_idle()
    gate.open.set()
    assert set(await asyncio.gather(*waiting)) == {"T1"}
    assert gate.requests == 1


@pytest.mark.parametrize("victim", [0, 1, 4])
async def test_token_cancelled_caller_does_not_affect_other_callers(kit, victim):
    gate, tokens = Gate(kit), kit.tokens()
    waiting = [asyncio.create_task(tokens.token()) for _ in range(5)]
    await wait_until_idle()
    waiting[victim].cancel()
    await wait_until_idle()
    gate.open.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results.pop(victim), asyncio.CancelledError)
    assert len(set(results)) == 1
    assert set(results) <= {"T1", "T2"}
    assert gate.requests == (2 if victim == 0 else 1)


async def test_token_after_cancellation_of_all_callers_is_requested_again(kit):
    gate, tokens = Gate(kit), kit.tokens()
    waiting = [asyncio.create_task(tokens.token()) for _ in range(3)]
    await wait_until_idle()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    gate.open.set()
    assert await tokens.token() in ("T2", "T3")
    assert len(asyncio.all_tasks()) == 1


async def test_invalidate_rejected_token_is_renewed_once(kit):
    kit.grant("T1", "T2")
    tokens = kit.tokens()
    assert await tokens.token() == "T1"
    for _ in range(16):
        tokens.invalidate("T1")
    assert await asyncio.gather(*(tokens.token() for _ in range(16))) == ["T2"] * 16
    tokens.invalidate("T1")  # a slow request of another task reports the old token again
    assert await tokens.token() == "T2"
    assert _posts(kit) == 2


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_token_rejected_credentials_fail_without_retry_and_permanently(kit, status):
    kit.api.post(
        TOKEN_URL, status=status, payload={"error": {"code": "UNAUTHORIZED", "message": "no such key"}}
    )
    tokens = kit.tokens()
    first = await asyncio.gather(*(tokens.token() for _ in range(8)), return_exceptions=True)
    later = await asyncio.gather(*(tokens.token() for _ in range(8)), return_exceptions=True)
    assert {(type(error).__mro__[1], error.reason) for error in first + later} == {
        (ApiError, Reason.CREDENTIALS)
    }
    assert len({id(error) for error in first + later}) == 16
    assert "no such key" in first[0].detail
    assert _posts(kit) == 1
    assert kit.timeline.slept == []


async def test_token_error_message_does_not_contain_the_secret(kit):
    message = "key hush! (cDE6aHVzaCE=) unknown"
    kit.api.post(TOKEN_URL, status=401, payload={"error": {"code": 401, "message": message}})
    failure = await _failure(kit.tokens(Account("me", SecretStr("hush!"))).token())
    assert "hush!" not in str(failure)


@pytest.mark.parametrize("body", ["", "null", "<html>no</html>", '"x"'])
async def test_token_rejection_with_invalid_body_is_a_credentials_error(kit, body):
    kit.api.post(TOKEN_URL, status=401, body=body)
    assert (await _failure(kit.tokens().token())).reason is Reason.CREDENTIALS


@pytest.mark.parametrize(
    "response",
    [
        {"status": 500},
        {"status": 502, "body": "<html>"},
        {"status": 429},
        {"exception": aiohttp.ServerDisconnectedError()},
        {"body": "{"},
    ],
)
async def test_token_temporary_error_is_retried(kit, response):
    kit.api.post(TOKEN_URL, **response)
    kit.api.post(TOKEN_URL, **response)
    kit.grant("T1")
    assert await kit.tokens().token() == "T1"
    assert sum(kit.timeline.slept) == pytest.approx(3.0)


async def test_token_persistent_error_is_shared_by_waiting_callers_and_retried_later(kit):
    for _ in range(kit.policy.max_attempts):
        kit.api.post(TOKEN_URL, status=503)
    tokens = kit.tokens()
    results = await asyncio.gather(*(tokens.token() for _ in range(10)), return_exceptions=True)
    assert {error.reason for error in results} == {Reason.SERVER_ERROR}
    assert _posts(kit) == kit.policy.max_attempts
    kit.grant("T1")
    assert await tokens.token() == "T1"


async def test_token_error_of_an_earlier_renewal_is_not_raised_again(kit):
    for _ in range(kit.policy.max_attempts):
        kit.api.post(TOKEN_URL, status=503)
    tokens = kit.tokens()
    await _failure(tokens.token())
    gate = Gate(kit)

    async def reject_token():
        tokens.invalidate(await tokens.token())

    waiting = [asyncio.create_task(reject_token()), asyncio.create_task(tokens.token())]
    await wait_until_idle()
    gate.open.set()
    assert await asyncio.gather(*waiting) == [None, "T2"]


async def test_token_before_its_end_is_used_if_the_renewal_fails(kit):
    kit.grant("T1")
    tokens = kit.tokens()
    await tokens.token()
    kit.timeline.now += 275
    for _ in range(kit.policy.max_attempts):
        kit.api.post(TOKEN_URL, status=503)
    assert await tokens.token() == "T1"
    kit.timeline.now += 300
    for _ in range(kit.policy.max_attempts):
        kit.api.post(TOKEN_URL, status=503)
    assert (await _failure(tokens.token())).reason is Reason.SERVER_ERROR


@pytest.mark.parametrize("status", [301, 307, 404, 415])
async def test_token_wrong_endpoint_is_not_a_credentials_error(kit, status):
    kit.api.post(TOKEN_URL, status=status, headers={"Location": "https://elsewhere.example/"})
    assert (await _failure(kit.tokens().token())).reason is Reason.REJECTED


async def test_token_retry_after_delays_the_next_attempt(kit):
    kit.api.post(TOKEN_URL, status=429, headers={"Retry-After": "20"})
    kit.grant("T1")
    assert await kit.tokens().token() == "T1"
    assert kit.timeline.now >= 1020


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("invalid_client", Reason.CREDENTIALS),
        ({"code": 401}, Reason.CREDENTIALS),
        ({"code": 422}, Reason.REJECTED),
    ],
)
async def test_token_error_in_a_200_response_is_raised(kit, error, reason):
    kit.api.post(TOKEN_URL, payload={"error": error, "access_token": "T1"})
    assert (await _failure(kit.tokens().token())).reason is reason


async def test_token_credentials_rejected_at_renewal_discard_the_old_token(kit):
    kit.grant("T1")
    tokens = kit.tokens()
    await tokens.token()
    kit.timeline.now += 275
    kit.api.post(TOKEN_URL, status=401)
    for _ in range(3):
        assert (await _failure(tokens.token())).reason is Reason.CREDENTIALS
    assert _posts(kit) == 2


async def test_token_static_token_is_used_until_it_is_rejected(kit):
    tokens = kit.tokens(StaticToken(SecretStr("T0")))
    kit.timeline.now += 1e6
    assert await tokens.token() == "T0"
    tokens.invalidate("T0")
    assert (await _failure(tokens.token())).reason is Reason.CREDENTIALS
    assert (await _failure(tokens.token())).reason is Reason.CREDENTIALS
    assert _posts(kit) == 0


async def test_token_renewal_is_logged_without_the_token(kit, logs):
    kit.grant("canary")
    await kit.tokens().token()
    assert [line["event"] for line in logs()] == ["token.renewed"]
    assert "canary" not in str(logs())


@pytest.mark.parametrize(
    ("body", "life_s"),
    [
        ({"access_token": "T", "expires_in": 2941}, 2941),
        ({"access_token": "T", "expires_in": "120"}, 120),
        ({"access_token": "T", "expires_in": 0}, 0),
        ({"access_token": "T", "expires_in": -5}, 300),
        ({"access_token": "T", "expires_in": True}, 300),
        ({"access_token": "T", "expires_in": "soon"}, 300),
        ({"access_token": "T", "expires_in": float("inf")}, 300),
        ({"data": {"accessToken": "T"}, "access_token": "T", "token_type": "bearer"}, 300),
        ({"data": {"accessToken": "T"}, "error": None}, 300),
        ({"data": None, "access_token": "T", "error": {}}, 300),
        ({"access_token": "", "data": {"accessToken": "T"}}, 300),
    ],
)
def test_parse_grant_of_all_formats(body, life_s):
    grant = parse_grant(body, "x")
    assert (grant.token, grant.lifetime_s) == ("T", life_s)
    assert "T" not in repr(grant).removeprefix("Grant")


@pytest.mark.parametrize(
    ("token", "life_s"),
    [
        ("h.eyJpYXQiOjEwMDAsImV4cCI6MTA2MH0.s", 60),
        ("h.eyJpYXQiOjEwNjAsImV4cCI6MTAwMH0.s", 300),
        ("h.eyJpYXQiOjEwNjB9.s", 300),
        ("h.W10.s", 300),
        ("h.%%%.s", 300),
        ("opaque", 300),
    ],
)
def test_parse_grant_uses_the_lifetime_of_a_readable_jwt(token, life_s):
    assert parse_grant({"access_token": token}, "x").lifetime_s == life_s


@pytest.mark.parametrize(
    "body",
    [None, 5, [], {}, {"access_token": 5}, {"access_token": "a\nb"}, {"access_token": "é"}, {"data": ["T"]}],
)
def test_parse_grant_without_token_is_an_invalid_response(body):
    with pytest.raises(ApiError) as caught:
        parse_grant(body, "x")
    assert caught.value.reason is Reason.INVALID_RESPONSE


@pytest.mark.parametrize(
    "credentials",
    [
        ProjectKey("p", SecretStr("canary")),
        Account("u", SecretStr("canary")),
        StaticToken(SecretStr("canary")),
    ],
)
def test_credentials_repr_contains_no_secret(credentials):
    assert "canary" not in f"{credentials!r}{credentials}"
