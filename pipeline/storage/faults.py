"""Storage errors: which are retried, and the messages of those that are not."""

import errno
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from pipeline.errors import StorageError

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_BUDGET_S = 60.0
"""Seconds for which a request is retried."""
LOG_EVERY_S = 10.0
"""Seconds between two log lines about retries for the same reason."""
_logged_at: dict[str, float] = {}
_log_lock = threading.Lock()
_TRANSIENT_HTTP = {408, 409, 425, 429, 500, 502, 503, 504}
_TRANSIENT_CODES = {
    "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted",
    "ConditionalRequestConflict", "Throttling", "ThrottlingException", "RequestThrottled", "TooManyRequests",
}  # fmt: skip
_TRANSIENT_TYPES = {
    "HTTPClientError", "ConnectionClosedError", "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError",
    "ResponseStreamingError", "IncompleteRead", "IncompleteReadError", "ResponseParserError", "FSTimeoutError",
    "ClientPayloadError", "ClientConnectionError", "ServerDisconnectedError", "ClientOSError", "ProxyConnectionError",
}  # fmt: skip
_TRANSIENT_ERRNO = {
    errno.EBUSY, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT,
    errno.EHOSTUNREACH, errno.ENETUNREACH, getattr(errno, "EREMOTEIO", errno.EIO),
}  # fmt: skip
_TRANSIENT_RUST = re.compile(
    r"Error performing (?:.*?)(?:error sending request|timed out|connection|status code: (?:408|409|425|429|5\d\d))",
    re.DOTALL,
)
"""Transient messages of object_store, which delta-rs uses and which has no error types; it does not retry creates."""
_CREDENTIAL_CODES = {
    "InvalidAccessKeyId": "the access key is unknown to the server",
    "SignatureDoesNotMatch": "the secret key does not match the access key",
    "ExpiredToken": "the session token has expired",
    "RequestTimeTooSkewed": "this machine's clock differs too much from the server's",
}


class MissingError(StorageError):
    """An object, file or bucket does not exist."""


class ChangedError(StorageError):
    """A source was replaced while it was being read."""


def redact(uri: str) -> str:
    """The URI without its secrets: user:password@, and the query of a signed URL."""
    uri = re.sub(r"(?<=://)[^/@\s]*@", "***@", uri)
    return re.sub(r"(?i)(?<=[a-z0-9])\?[^\s]*(signature|sig|token|credential|key)=[^\s]*", "?***", uri)


def s3_response(error: BaseException | None) -> dict[str, Any]:
    """The server's response behind an error that s3fs has translated; {} if there is none."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return response
        error = error.__cause__ or error.__context__
    return {}


def s3_code(error: BaseException | None) -> str:
    """The code of an S3 error, such as "NoSuchBucket"; "" when there is none."""
    return str(s3_response(error).get("Error", {}).get("Code", ""))


def s3_error(found: Mapping[str, str], operation: str) -> Exception:
    """The exception that s3fs would raise for an error in a response with a success status."""
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    told = {**found, "Message": f"{found.get('Message')} ({found.get('Key')})"}
    return cast(Exception, translate_boto_error(ClientError({"Error": told}, operation)))


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: server trouble, throttling, timeouts, broken connections."""
    response = s3_response(error)
    if response:
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return s3_code(error) in _TRANSIENT_CODES or status in _TRANSIENT_HTTP
    if {base.__name__ for base in type(error).__mro__} & _TRANSIENT_TYPES or isinstance(
        error, (TimeoutError, ConnectionError)
    ):
        return True
    http_status = getattr(error, "status", None)  # aiohttp.ClientResponseError, of HTTP sources
    if isinstance(http_status, int):
        return http_status in _TRANSIENT_HTTP
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _TRANSIENT_ERRNO
    return _TRANSIENT_RUST.search(str(error)) is not None


def with_retries(
    action: Callable[[], T],
    *,
    what: str,
    uri: str,
    budget_s: float = RETRY_BUDGET_S,
    retry: bool = True,
    passes: tuple[type[BaseException], ...] = (),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """The result of `action`, which is retried after transient errors until `budget_s` is spent.

    Args:
        action: one request.
        what: its verb, for messages: "read".
        uri: its object, for messages.
        budget_s: seconds for which it is retried.
        retry: False for a single attempt.
        passes: errors that are raised unchanged, unless they are transient.

    Raises:
        StorageError: Any other error.
    """
    started, wait = clock(), 0.1
    while True:
        try:
            return action()
        except StorageError:
            raise
        except Exception as error:
            transient = retry and is_transient(error)
            left = budget_s - (clock() - started)
            if not transient and isinstance(error, passes):
                raise
            if not transient or left <= 0:
                raise explain(error, what=what, uri=uri, tried_s=clock() - started if transient else None) from None
            _log_retry(f"cannot {what} {redact(uri)} yet ({_words(error)}); retrying", _words(error), now=clock())
            sleep(min(wait * random.uniform(0.5, 1.5), max(left, 0.0)))
            wait = min(wait * 2, 10.0)


def _log_retry(message: str, words: str, *, now: float) -> None:
    """Log a retry: one warning per LOG_EVERY_S for the same text, because an outage affects many threads."""
    with _log_lock:
        due = now - _logged_at.get(words, -LOG_EVERY_S) >= LOG_EVERY_S
        if due:
            _logged_at[words] = now
    log.log(logging.WARNING if due else logging.DEBUG, "%s", message)


def explain(error: BaseException, *, what: str, uri: str, tried_s: float | None = None) -> StorageError:
    """The StorageError for an error: what failed, why, and what to do."""
    head = f"cannot {what} {redact(uri)}: "
    code = s3_code(error)
    name = type(error).__name__
    if code == "NoSuchBucket":
        return MissingError(f"{head}the bucket {_bucket(uri)!r} does not exist; create it or correct the URI")
    if name == "ProfileNotFound":
        return StorageError(f"{head}{_words(error)}; check AWS_PROFILE, or profile in the storage configuration")
    if name in ("NoCredentialsError", "PartialCredentialsError"):
        return StorageError(f"{head}no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment")
    if code in _CREDENTIAL_CODES:
        return StorageError(
            f"{head}{_CREDENTIAL_CODES[code]} ({code}); "
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
        )
    if tried_s is not None:
        return StorageError(
            f"{head}{_words(error)}, also after {tried_s:.0f} s of retries; "
            "check that the endpoint (AWS_ENDPOINT_URL) is reachable, then run again"
        )
    if isinstance(error, FileNotFoundError):
        return MissingError(f"{head}it does not exist")
    if isinstance(error, PermissionError):
        return StorageError(f"{head}permission denied{f' ({code})' if code else ''}; check {_rights(uri)}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{head}no space left; free some, or choose another location")
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return StorageError(f"{head}the file system is read-only; choose another location")
    if isinstance(error, IsADirectoryError):
        return StorageError(f"{head}expected a file, found a directory")
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        return StorageError(f"{head}expected a directory, found a file")
    if name == "FileExpired":
        return ChangedError(f"{head}it was replaced while it was being read; run again")
    return StorageError(f"{head}{_words(error)}")


def _bucket(uri: str) -> str:
    return uri.partition("://")[2].partition("/")[0]


def _rights(uri: str) -> str:
    if uri.startswith("s3"):
        keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return f"{keys}, their permissions, and that the bucket {_bucket(uri)!r} exists"
    return "the credentials and their permissions" if "://" in uri else "who owns the folder and may write to it"


def _words(error: BaseException) -> str:
    plain = re.sub(r"\s*\x1b\[\d+m↳\x1b\[0m", ":", str(error))  # delta-rs prints coloured trees
    text = redact(" ".join(plain.split()))[:300]
    code = s3_code(error)
    if isinstance(error, OSError) and error.strerror:
        text = redact(error.strerror)[:300]
    return f"{text or type(error).__name__}{f' ({code})' if code and code not in text else ''}"
