"""The errors of object stores, as their client raises them, and what they mean."""

import pytest
from obstore.exceptions import GenericError, PermissionDeniedError

from bulkdl.destinations.objectstore.failures import convert_error, first_line, to_config_error
from bulkdl.errors import ConfigError
from bulkdl.models import Reason


def response(status, code, more=""):
    return (
        "Generic S3 error: Error performing PUT https://host/bucket/key in 1ms - Server returned non-2xx "
        f"status code: {status}: <Error><Code>{code}</Code>{more}</Error>\n\n"
        "Debug source:\nGeneric { secret }"
    )


@pytest.mark.parametrize(
    ("error", "reason", "text"),
    [
        (GenericError(response("503 Slow", "SlowDown")), Reason.THROTTLED, "HTTP 503 (SlowDown)"),
        (GenericError(response("429 Too Many", "")), Reason.THROTTLED, "HTTP 429"),
        (
            GenericError(response("500 Internal", "InternalError")),
            Reason.SERVER_ERROR,
            "HTTP 500 (InternalError)",
        ),
        (GenericError(response("400 Bad", "BadDigest")), Reason.SERVER_ERROR, "HTTP 400 (BadDigest)"),
        (GenericError(response("507 Full", "")), Reason.DISK_FULL, "the quota is used up (507)"),
        (GenericError(response("403 No", "QuotaExceeded")), Reason.DISK_FULL, "the quota is used up"),
        (PermissionDeniedError(response("403 No", "AccessDenied")), Reason.STORE_DENIED, "permission denied"),
        (
            PermissionDeniedError(response("403 No", "RequestTimeTooSkewed")),
            Reason.STORE_DENIED,
            "the clock of this machine is wrong",
        ),
        (
            GenericError("Generic S3 error: HTTP error: error sending request\n\nDebug"),
            Reason.UNREACHABLE,
            "error sending request",
        ),
        (
            GenericError(
                "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 1ms"
            ),
            Reason.STORE_DENIED,
            "no credentials found",
        ),
        (
            GenericError("Generic S3 error: Error getting credentials from instance metadata"),
            Reason.STORE_DENIED,
            "no credentials found",
        ),
    ],
)
def test_convert_error_has_reason_and_one_line(error, reason, text):
    failure = convert_error(error, "a/b: upload")
    assert failure.reason is reason
    assert failure.detail.startswith("a/b: upload: ")
    assert text in failure.detail
    assert "secret" not in failure.detail
    assert to_config_error("s3://bucket", failure) is failure


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (
            FileNotFoundError(response("404 Not Found", "NoSuchBucket")),
            "the bucket does not exist; create it",
        ),
        (
            GenericError(response("404 Not Found", "ContainerNotFound")),
            "the bucket does not exist; create it",
        ),
        (
            GenericError(response("400 Bad", "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")),
            "another region; set AWS_REGION=eu-west-1",
        ),
        (
            GenericError(
                "Received redirect without LOCATION, this normally indicates an incorrectly configured region"
            ),
            "another region; set AWS_REGION to the region of the bucket",
        ),
    ],
)
def test_to_config_error_names_what_to_change(error, problem):
    converted = to_config_error("s3://bucket", convert_error(error, "list"))
    assert isinstance(converted, ConfigError)
    assert problem in str(converted)


def test_first_line_hides_urls():
    assert (
        first_line(GenericError("GET https://host/x?X-Amz-Signature=1 failed\nmore"))
        == "GET the store failed"
    )
