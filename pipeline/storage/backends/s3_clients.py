"""The S3 clients of this package, with the same access settings: s3fs, delta-rs and Arrow."""

import os
import threading
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.fs

from pipeline.storage.access import Access

_file_systems: dict[object, Any] = {}
_lock = threading.Lock()


def shared_s3fs(access: Access, options: Mapping[str, Any]) -> Any:
    """One s3fs file system, so one connection pool, per access setting in this process."""
    environment = sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))
    reached = (os.getpid(), access, repr(sorted(options.items())), tuple(environment))
    with _lock:
        if reached not in _file_systems:
            _file_systems[reached] = _s3fs(access, options)
        return _file_systems[reached]


def _s3fs(access: Access, options: Mapping[str, Any]) -> Any:
    import s3fs  # takes 0.3 s, which local work does not need

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
    if access.key_env:
        settings |= {"key": access.key, "secret": access.secret}
    if access.token_env:
        settings["token"] = access.token
    if access.region:
        settings["client_kwargs"] = {"region_name": access.region}
    if access.kms_key_id:
        settings["s3_additional_kwargs"] = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": access.kms_key_id}
    made = s3fs.S3FileSystem(
        **(settings | {"anon": access.anonymous, "requester_pays": access.requester_pays} | dict(options))
    )
    made.retries = 2  # the store retries within its own budget
    return made


def deltalake_options(access: Access, options: Mapping[str, Any]) -> dict[str, str]:
    """The same access for delta-rs, which otherwise reads the same environment variables."""
    endpoint = endpoint_of(access, options)
    found: dict[str, str | None] = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true" if endpoint and endpoint.startswith("http://") else None,
        "AWS_REGION": options.get("client_kwargs", {}).get("region_name") or _region(access),
        "AWS_ACCESS_KEY_ID": options.get("key") or access.key,
        "AWS_SECRET_ACCESS_KEY": options.get("secret") or access.secret,
        "AWS_SESSION_TOKEN": options.get("token") or access.token,
        "AWS_PROFILE": access.profile,
        "AWS_SKIP_SIGNATURE": "true" if access.anonymous or options.get("anon") else None,
        "AWS_SSE_KMS_KEY_ID": access.kms_key_id,
        "AWS_SERVER_SIDE_ENCRYPTION": "aws:kms" if access.kms_key_id else None,
        "AWS_REQUEST_PAYER": "true" if access.requester_pays else None,
    }
    return {name: value for name, value in found.items() if value}


def arrow_filesystem(path: str, access: Access, options: Mapping[str, Any]) -> pa.fs.FileSystem | None:
    """Arrow's own file system, rooted at BUCKET/PREFIX; None if Arrow lacks a setting.

    Its reads run in native threads. Reads of a Python file system may abort the interpreter at exit if a scan was not
    read to its end ("terminate called without an active exception", about one exit in 15 with delta-rs's own).
    """
    if access.profile or access.requester_pays:
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


def endpoint_of(access: Access, options: Mapping[str, Any]) -> str | None:
    """The server's URL; None for AWS's own."""
    given = options.get("endpoint_url") or options.get("client_kwargs", {}).get("endpoint_url") or access.endpoint
    return given or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _region(access: Access) -> str:
    import botocore.session

    if found := access.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        return found
    return botocore.session.Session(profile=access.profile).get_config_variable("region") or "us-east-1"
