"""What a URI says: which path of this machine it means, or which scheme serves it."""

import os
from pathlib import Path
from urllib.parse import unquote_to_bytes


def scheme_of(uri: str) -> str:
    """The scheme, such as "s3"; "" of a plain path."""
    return uri.partition("://")[0] if "://" in uri else ""


def local_path(uri: str | os.PathLike[str]) -> Path | None:
    """The path that a URI means on this machine; None when another scheme serves it.

    `~` and `~user` at the beginning of a plain path are home folders. `file://` URLs are percent-decoded (RFC 8089),
    except where only the undecoded name exists: earlier versions wrote to it.
    """
    given = os.fspath(uri)
    match scheme_of(given):
        case "":
            return expanded(given)
        case "file":
            raw = given.partition("://")[2]
            raw = raw.removeprefix("localhost") if raw.startswith("localhost/") else raw
            decoded = Path(os.fsdecode(unquote_to_bytes(os.fsencode(raw))))  # a name may be other bytes than UTF-8
            return Path(raw) if Path(raw).exists() and not decoded.exists() else decoded
        case "local":
            return Path(given.partition("://")[2])
    return None


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with `~` or `~user` replaced by that home folder; unchanged where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises where there is no such user
