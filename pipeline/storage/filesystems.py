"""From a URI to the file system that serves it, with its own endpoint and credentials for each prefix."""

import dataclasses
import os
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.fs

from pipeline.errors import StorageError, UsageError
from pipeline.storage.faults import redact

_file_systems: dict[object, Any] = {}
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach one prefix. Names environment variables, holds no secret: it may travel and be shown."""

    endpoint: str | None = None
    """URL of an S3-compatible server; AWS_ENDPOINT_URL when absent."""
    region: str | None = None
    profile: str | None = None
    """A profile of ~/.aws."""
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


@dataclasses.dataclass(frozen=True)
class Storage:
    """Access by URI prefix, the longest one deciding; what no prefix covers uses the environment."""

    prefixes: tuple[tuple[str, Access], ...] = ()

    @classmethod
    def from_toml(cls, path: str | Path) -> "Storage":
        """Read storage.toml: one table per prefix, named by it, its keys the fields of Access."""
        try:
            tables = tomllib.loads(Path(path).read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
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
        covering = [(len(prefix), access) for prefix, access in self.prefixes if _covers(prefix, uri)]
        return max(covering, key=lambda found: found[0])[1] if covering else Access()


def local_path(uri: str) -> Path | None:
    """The path a URI means on this machine; None when it lies elsewhere."""
    if uri.startswith(("file://", "local://")):
        return Path(uri.partition("://")[2])
    return None if "://" in uri else Path(uri)


def filesystem(uri: str, access: Access, options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """The fsspec file system of a remote URI and the path within it."""
    protocol = uri.partition("://")[0]
    try:
        if protocol in ("s3", "s3a"):
            made = _shared_s3(access, options or {})
        else:
            made, _ = fsspec.core.url_to_fs(uri, **{"use_listings_cache": False, **(options or {})})
        return made, str(made._strip_protocol(uri))
    except (ImportError, ValueError) as error:
        raise StorageError(f"cannot use {redact(uri)}: {redact(str(error))}") from None


def _shared_s3(access: Access, options: Mapping[str, Any]) -> Any:
    """One connection pool for all stores and sources of this process that are reached alike."""
    environment = sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))
    reached = (os.getpid(), access, repr(sorted(options.items())), tuple(environment))
    with _lock:
        if reached not in _file_systems:
            _file_systems[reached] = _s3(access, options)
        return _file_systems[reached]


def _s3(access: Access, options: Mapping[str, Any]) -> Any:
    import s3fs  # 0.3 s that purely local work need not pay

    settings: dict[str, Any] = {
        "use_listings_cache": False,
        "skip_instance_cache": True,
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 30,
            "max_pool_connections": 64,
            "retries": {"mode": "standard", "total_max_attempts": 2},
            "signature_version": "s3v4",  # for presigned URLs too
        },
    }
    if access.endpoint:
        settings["endpoint_url"] = access.endpoint
    if access.profile:
        settings["profile"] = access.profile
    if access.key_env and access.secret_env:
        settings |= {"key": _variable(access.key_env), "secret": _variable(access.secret_env)}
    if access.token_env:
        settings["token"] = _variable(access.token_env)
    if access.region:
        settings["client_kwargs"] = {"region_name": access.region}
    if access.kms_key_id:
        settings["s3_additional_kwargs"] = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": access.kms_key_id}
    made = s3fs.S3FileSystem(
        **(settings | {"anon": access.anonymous, "requester_pays": access.requester_pays} | dict(options))
    )
    made.retries = 2  # the store retries by its own budget
    return made


def deltalake_options(access: Access, options: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The same access for delta-rs, which otherwise reads the same environment variables."""
    options = options or {}
    client = options.get("client_kwargs", {})
    endpoint = (
        options.get("endpoint_url") or client.get("endpoint_url") or access.endpoint or endpoint_from_environment()
    )
    found: dict[str, str | None] = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true" if endpoint and endpoint.startswith("http://") else None,
        "AWS_REGION": client.get("region_name") or region(access),
        "AWS_ACCESS_KEY_ID": options.get("key") or (_variable(access.key_env) if access.key_env else None),
        "AWS_SECRET_ACCESS_KEY": options.get("secret") or (_variable(access.secret_env) if access.secret_env else None),
        "AWS_SESSION_TOKEN": options.get("token") or (_variable(access.token_env) if access.token_env else None),
        "AWS_PROFILE": access.profile,
        "AWS_SKIP_SIGNATURE": "true" if access.anonymous or options.get("anon") else None,
        "AWS_SSE_KMS_KEY_ID": access.kms_key_id,
        "AWS_SERVER_SIDE_ENCRYPTION": "aws:kms" if access.kms_key_id else None,
        "AWS_REQUEST_PAYER": "true" if access.requester_pays else None,
    }
    return {name: value for name, value in found.items() if value}


def arrow_filesystem(uri: str, access: Access, options: Mapping[str, Any] | None = None) -> pa.fs.FileSystem | None:
    """Arrow's own file system, rooted at `uri`; None where Arrow has none that reaches it.

    Its reads run in native threads. Those of a Python file system may abort the interpreter at exit, when a scan was
    not read to its end ("terminate called without an active exception", about one exit in 15 with delta-rs's own).
    """
    if (local := local_path(uri)) is not None:
        return pa.fs.SubTreeFileSystem(str(local.absolute()), pa.fs.LocalFileSystem())
    protocol, _, path = uri.partition("://")
    if protocol not in ("s3", "s3a") or access.profile or access.requester_pays:
        return None
    found = deltalake_options(access, options)
    endpoint = found.get("AWS_ENDPOINT_URL")
    made = pa.fs.S3FileSystem(
        access_key=found.get("AWS_ACCESS_KEY_ID"),
        secret_key=found.get("AWS_SECRET_ACCESS_KEY"),
        session_token=found.get("AWS_SESSION_TOKEN"),
        anonymous="AWS_SKIP_SIGNATURE" in found,
        region=found["AWS_REGION"],
        scheme=endpoint.partition("://")[0] if endpoint else None,
        endpoint_override=endpoint.partition("://")[2].rstrip("/") if endpoint else None,
    )
    return pa.fs.SubTreeFileSystem(path, made)


def endpoint_from_environment() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def region(access: Access) -> str:
    import botocore.session

    if found := access.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        return found
    return botocore.session.Session(profile=access.profile).get_config_variable("region") or "us-east-1"


def _variable(name: str) -> str:
    if not (value := os.environ.get(name)):
        raise UsageError(f"the storage configuration names the environment variable {name}, which is not set")
    return value


def _covers(prefix: str, uri: str) -> bool:
    prefix = prefix.rstrip("/")
    return uri == prefix or uri.startswith(prefix + "/")
