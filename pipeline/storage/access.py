"""Endpoints and credentials by URI prefix."""

import dataclasses
import os
import tomllib
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.storage.uris import expanded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Access:
    """Access to one prefix. It names environment variables and holds no secret, so it can be sent and shown."""

    endpoint: str | None = None
    """URL of an S3-compatible server; AWS_ENDPOINT_URL when absent."""
    region: str | None = None
    profile: str | None = None
    """Name of a profile in ~/.aws."""
    key_env: str | None = None
    """Environment variable that holds the access key; with secret_env."""
    secret_env: str | None = None
    token_env: str | None = None
    anonymous: bool = False
    kms_key_id: str | None = None
    """Written objects are encrypted with this KMS key."""
    requester_pays: bool = False

    def __post_init__(self) -> None:
        if (self.key_env is None) != (self.secret_env is None):
            raise UsageError("key_env and secret_env belong together: give both or none")

    @property
    def key(self) -> str | None:
        """The access key, read from the environment.

        Raises:
            UsageError: The environment variable is not set. The same holds for `secret` and `token`.
        """
        return _variable(self.key_env)

    @property
    def secret(self) -> str | None:
        return _variable(self.secret_env)

    @property
    def token(self) -> str | None:
        return _variable(self.token_env)


@dataclasses.dataclass(frozen=True)
class Storage:
    """Access by URI prefix: that of the longest prefix of a URI, or the environment's if no prefix matches."""

    prefixes: tuple[tuple[str, Access], ...] = ()

    @classmethod
    def from_toml(cls, path: str | Path | None) -> "Storage":
        """Read storage.toml: one table per prefix, named by it, its keys the fields of Access.

        Without a file, credentials and endpoints are those of the environment.

        Raises:
            UsageError: The file cannot be read, or has an unknown setting.
        """
        if not path:
            return cls()
        try:
            tables = tomllib.loads(expanded(path).read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"cannot read the storage configuration {path}: {error}") from None
        allowed = [field.name for field in dataclasses.fields(Access)]
        for prefix, table in tables.items():
            if not isinstance(table, dict):
                raise UsageError(f'{path}: {prefix!r} must be a table, as in ["s3://bucket/prefix"]')
            if unknown := sorted(set(table) - set(allowed)):
                raise UsageError(
                    f"{path}: unknown setting {unknown[0]!r} for {prefix}; allowed are {', '.join(allowed)}"
                )
        return cls(tuple((prefix, Access(**table)) for prefix, table in tables.items()))

    def access(self, uri: str) -> Access:
        """Access to a URI."""
        covering = [(len(prefix), access) for prefix, access in self.prefixes if _covers(prefix, uri)]
        return max(covering, key=lambda found: found[0])[1] if covering else Access()


def _variable(name: str | None) -> str | None:
    if name is None:
        return None
    if not (value := os.environ.get(name)):
        raise UsageError(f"the storage configuration names the environment variable {name}, which is not set")
    return value


def _covers(prefix: str, uri: str) -> bool:
    prefix = prefix.rstrip("/")
    return uri == prefix or uri.startswith(prefix + "/")
