"""What goes wrong with a store, in one line: the driver's error, which may be anything, as value, rule and remedy.

Nothing that a driver says is passed on before addresses are taken out of it, and a URL is shown without its password: endpoints, keys and
signed addresses must not stand in messages, which end in logs.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from skillneurons.errors import StorageError

S3 = ("s3", "s3a")
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "TokenRetrievalError",
    "SSOError",
    "UnauthorizedSSOTokenError",
    "DefaultCredentialsError",
}
_UNANSWERED = {
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "ProxyConnectionError",
    "HTTPClientError",
    "ConnectionError",
    "ClientConnectorError",
    "ClientPayloadError",
    "ServerDisconnectedError",
    "ServerTimeoutError",
    "ServiceRequestError",
    "IncompleteRead",
    "ResponseParserError",
    "FSTimeoutError",
    "gaierror",
}
_TRANSIENT = {errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO), errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE}
_PASSWORD = re.compile(r"://(?P<user>[^/@:\s]*):[^/\s]*@")
_QUESTION = re.compile(r"(?P<address>https?://[^\s?]*)\?\S+")
_ADDRESS = re.compile(r"\b[a-z]+://\S+")


def without_password(url: str) -> str:
    """Return a URL, or a text with URLs, as it may be shown: no password, no signed question behind an address."""
    return _QUESTION.sub(r"\g<address>?***", _PASSWORD.sub(r"://\g<user>:***@", url))


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def code_of(error: BaseException) -> str:
    """Return the code that an S3 server gave, or the number of an HTTP error; "" where there is none."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        code = getattr(one, "code", None) or getattr(one, "status_code", None)
        if isinstance(code, int | str):
            return str(code)
    return ""


def is_unanswered(error: BaseException) -> bool:
    """Whether nobody answered, or not in time."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    names = {base.__name__ for one in _chain(error) for base in type(one).__mro__}
    return bool(names & _UNANSWERED)


def is_transient(error: BaseException) -> bool:
    """Whether the same may succeed in a moment: nobody answered, or the server said that it is busy or has failed."""
    if isinstance(error, FileNotFoundError | PermissionError | FileExistsError):
        return False
    busy = isinstance(error, OSError) and error.errno in _TRANSIENT
    return busy or is_unanswered(error) or code_of(error) in ("500", "502", "503", "SlowDown", "InternalError")


def why(error: BaseException, protocol: str, bucket: str) -> tuple[str, str]:
    """Return what is the matter, and what helps."""
    names = {type(one).__name__ for one in _chain(error)}
    if names & _NO_CREDENTIALS:
        keys = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return "no credentials were found", keys if protocol in S3 else f"sign in to {protocol} as its driver asks for"
    if code_of(error) in ("NoSuchBucket", "InvalidBucketName") or "ParamValidationError" in names:
        return f"there is no bucket {bucket!r}", "make it first, or give another with -o URL"
    if isinstance(error, PermissionError):
        keys = "other credentials (AWS_PROFILE)" if protocol in S3 else "other credentials"
        return "permission denied", f"give a place that you may read and write with -o URL, or {keys}"
    if isinstance(error, FileNotFoundError):
        return "there is no such place", "make it first, or give another with -o URL"
    if is_unanswered(error):
        where = "the network and AWS_ENDPOINT_URL" if protocol in S3 else "the network and the address"
        return "the store does not answer", f"check {where}"
    said = str(getattr(error, "strerror", None) or error)
    told = " ".join(_ADDRESS.sub("(address)", said).split()) or type(error).__name__
    return told if isinstance(
        error, OSError
    ) else f"{type(error).__name__}: {told}", "check the address and your access"


def store_error(does: str, place: str, error: BaseException, protocol: str, bucket: str) -> StorageError:
    """Return the error that says what could not be done where (``cannot write s3://b/run/x``), why, and what helps."""
    reason, remedy = why(error, protocol, bucket)
    return StorageError(f"cannot {does} {place}: {reason}; {remedy}")
