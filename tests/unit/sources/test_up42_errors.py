import pytest

from bulkdl.models import Reason
from bulkdl.sources.up42_common.errors import api_error, find_error, find_message, parse_error_response


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": 404, "message": "m"}, Reason.NOT_FOUND),
        ({"code": "404"}, Reason.NOT_FOUND),
        ({"code": "RESOURCE_NOT_FOUND"}, Reason.NOT_FOUND),
        ("Not found!", Reason.NOT_FOUND),
        ({"code": "UNAUTHORIZED", "message": "ACCESS_TOKEN_EXPIRED: JWT"}, Reason.CREDENTIALS),
        ({"code": 401}, Reason.CREDENTIALS),
        ({"code": 403}, Reason.FORBIDDEN),
        ({"code": 429}, Reason.THROTTLED),
        ({"code": 503}, Reason.SERVER_ERROR),
        ({"code": "INTERNAL_SERVER_ERROR"}, Reason.SERVER_ERROR),
        ({"code": 422}, Reason.REJECTED),
        ({"code": 200}, Reason.REJECTED),
        ({"code": True}, Reason.REJECTED),
        ({"code": 10**400}, Reason.REJECTED),
        ({"code": ["x"]}, Reason.REJECTED),
        ({"message": "m"}, Reason.REJECTED),
        ("something else", Reason.REJECTED),
        (["x"], Reason.REJECTED),
        (True, Reason.REJECTED),
    ],
)
def test_find_error_reason_depends_on_the_code(error, reason):
    complaint = find_error({"data": None, "error": error})
    assert api_error(complaint, "x").reason is reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"data":null,"error":{"code":404,"message":"Job not found","details":null}}', Reason.NOT_FOUND),
        (b'{"error":{"code":"RESOURCE_NOT_FOUND","message":"m","details":null}}', Reason.NOT_FOUND),
        (b"<html>404 Not Found</html>", Reason.INVALID_RESPONSE),
        (b'{"timestamp":"t","status":404,"error":"Not Found","path":"/x"}', Reason.INVALID_RESPONSE),
        (b'{"message":"no Route matched with those values"}', Reason.INVALID_RESPONSE),
        (b'{"data":[],"error":{"code":404}}', Reason.INVALID_RESPONSE),
        (b"", Reason.INVALID_RESPONSE),
    ],
)
def test_api_error_404_is_not_found_only_in_the_error_envelope(body, reason):
    failure = api_error(parse_error_response(404, body), "x")
    assert failure.reason is reason
    assert failure.is_absent is (reason is Reason.NOT_FOUND)


@pytest.mark.parametrize("document", [{"error": None}, {"error": {}}, {"data": 1}, {}, [], None, "error"])
def test_find_error_without_error_is_none(document):
    assert find_error(document) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"null", ""),
        (b"<html>502</html>", ""),
        (b'{"data":null,"error":{"code":404,"message":"Job not found","details":null}}', "Job not found"),
        (b'{"error":"invalid_grant","error_description":"no such user"}', "no such user"),
        (b'{"status":404,"error":"Not Found","message":"nothing here"}', "nothing here"),
        (b'{"title":"Gone","detail":"for good"}', "for good"),
    ],
)
def test_find_message_of_all_error_formats(body, message):
    assert find_message(body) == message
