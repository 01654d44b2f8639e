"""Which errors are retried, for how long, and what the message says."""

import errno
import itertools

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from s3fs.errors import translate_boto_error

from pipeline.errors import StorageError
from pipeline.storage.faults import is_transient, redact, with_retries


def s3_error(code: str, status: int) -> Exception:
    answer = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    translated = translate_boto_error(ClientError(answer, "PutObject"))
    assert isinstance(translated, Exception)
    return translated


@pytest.mark.parametrize(
    "error",
    [
        s3_error("SlowDown", 503),
        s3_error("ServiceUnavailable", 503),
        s3_error("InternalError", 500),
        s3_error("RequestTimeout", 400),
        s3_error("ConditionalRequestConflict", 409),
        s3_error("SomethingNew", 502),
        EndpointConnectionError(endpoint_url="http://h"),
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.ETIMEDOUT, "x"),
    ],
)
def test_transient_errors_are_retried(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        s3_error("AccessDenied", 403),
        s3_error("NoSuchKey", 404),
        s3_error("PreconditionFailed", 412),
        s3_error("InvalidArgument", 400),
        s3_error("SignatureDoesNotMatch", 403),
        FileNotFoundError(),
        PermissionError(),
        OSError(errno.ENOSPC, "full"),
        ValueError("x"),
    ],
)
def test_other_errors_are_final(error: Exception) -> None:
    assert not is_transient(error)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_retries_back_off_until_the_budget_is_spent(caplog: pytest.LogCaptureFixture) -> None:
    clock, calls = Clock(), []

    def action() -> None:
        calls.append(clock.now)
        raise s3_error("SlowDown", 503)

    with pytest.raises(StorageError, match=r"cannot read s3://\*\*\*@b/k: .*SlowDown.*after 30 s of retries") as caught:
        with_retries(action, what="read", uri="s3://user:pass@b/k", budget_s=30, clock=clock, sleep=clock.sleep)
    assert clock.now == pytest.approx(30)
    assert 8 <= len(calls) <= 14
    waits = [later - sooner for sooner, later in itertools.pairwise(calls)]
    assert max(waits[:2]) < min(waits[4:-1])
    assert caught.value.__suppress_context__
    assert "pass" not in caplog.text


def test_a_retry_may_succeed() -> None:
    clock, answers = Clock(), [ConnectionResetError(), s3_error("InternalError", 500), None]

    def action() -> str:
        if error := answers.pop(0):
            raise error
        return "read"

    assert with_retries(action, what="read", uri="s3://b/k", clock=clock, sleep=clock.sleep) == "read"


def test_final_errors_cost_one_call_and_no_time() -> None:
    clock, calls = Clock(), []

    def action() -> None:
        calls.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="cannot write /out/x: no space left"):
        with_retries(action, what="write", uri="/out/x", clock=clock, sleep=clock.sleep)
    assert len(calls) == 1
    assert clock.now == 0


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://key:secret@bucket/a", "s3://***@bucket/a"),
        ("https://user@host/a", "https://***@host/a"),
        ("https://h/v.mp4?X-Amz-Credential=AK&X-Amz-Signature=ab", "https://h/v.mp4?***"),
        ("https://h/v.mp4?sig=ab&se=1", "https://h/v.mp4?***"),
        ("s3://bucket/is?it", "s3://bucket/is?it"),
        ("/plain/path@x", "/plain/path@x"),
    ],
)
def test_secrets_in_uris_are_not_shown(uri: str, shown: str) -> None:
    assert redact(uri) == shown
