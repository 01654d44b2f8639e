"""S3 and compatible servers: conditional puts, and listings and deletions of a thousand keys per request."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.fs

from pipeline.storage.access import Access
from pipeline.storage.backends.backend import join
from pipeline.storage.backends.fsspec import FsspecBackend
from pipeline.storage.backends.s3_clients import arrow_filesystem, deltalake_options, shared_s3fs
from pipeline.storage.backends.s3_listing import S3Lister
from pipeline.storage.backends.s3_versions import versions_in_bucket
from pipeline.storage.contact import check_endpoint
from pipeline.storage.faults import s3_error, with_retries
from pipeline.storage.listing import Entry, Page, Version, entry_of, version_of


class S3Backend(FsspecBackend):
    """Below one prefix of a bucket."""

    deletes_at_once: ClassVar[int] = 1000
    """Largest number of keys in one DeleteObjects request."""
    read_options: ClassVar[Mapping[str, Any]] = {"max_concurrency": 1}
    """One request; s3fs would first request the size."""
    upload_options: ClassVar[Mapping[str, Any]] = {"chunksize": 64 * 2**20, "max_concurrency": 2}
    """Objects of up to two chunks are one conditional request; larger ones are several uploads and a conditional end.
    With three concurrent conditional ends, SeaweedFS 4.48 accepted two or three of them in 4 of 60 tries on a busy
    machine; with single requests it accepted one in all of 80."""

    def __init__(self, uri: str, access: Access, options: Mapping[str, Any]) -> None:
        super().__init__(uri, access, options)
        self._access = access
        self._bucket, _, self._key = self._root.partition("/")
        self._lister = S3Lister(self._fs)

    def _connect(self, uri: str, access: Access, options: Mapping[str, Any]) -> Any:
        fs = shared_s3fs(access, options)
        check_endpoint(with_retries(lambda: str(fs.s3.meta.endpoint_url), what="use", uri=uri, retry=False))
        return fs

    def open(self, path: str) -> tuple[BinaryIO, Version]:
        """As `Backend.open`, with the version that the file has already requested: one request less."""
        file = self._open(join(self._root, path))
        if file.details["type"] != "file":
            raise IsADirectoryError(path)
        return file, version_of(entry_of(path, file.details))

    def delete(self, paths: Sequence[str]) -> None:
        if len(paths) == 1:
            return super().delete(paths)
        objects = [{"Key": self._key_of(path)} for path in paths]
        answer = self._fs.call_s3("delete_objects", Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
        for error in answer.get("Errors", []):
            raise s3_error(error, "DeleteObjects")
        return None

    def list_page(self, prefix: str, token: str) -> Page:
        folder = self._key_of(prefix)
        page = self._lister.page(self._bucket, f"{folder}/" if folder else "", token=token)
        strip = len(self._key) + 1 if self._key else 0
        entries = [Entry(entry.path[strip:], entry.size, entry.mtime, entry.etag) for entry in page.entries]
        return Page(entries, page.next_token)

    def is_folder(self, path: str) -> bool:
        folder = self._key_of(path)
        answer = self._fs.call_s3(
            "list_objects_v2", Bucket=self._bucket, Prefix=f"{folder}/" if folder else "", MaxKeys=1
        )
        return bool(answer.get("KeyCount") or answer.get("Contents"))

    @classmethod
    def versions(cls, uris: Sequence[str], access: Access, *, budget_s: float) -> list[Version | None]:
        """As `Backend.versions`, bucket by bucket; many objects of one bucket are found by listing."""
        buckets: dict[str, list[str]] = defaultdict(list)
        for uri in uris:
            scheme, _, rest = uri.partition("://")
            buckets[f"{scheme}://{rest.partition('/')[0]}"].append(uri)
        found: dict[str, Version | None] = {}
        for bucket_uri, inside in buckets.items():
            bucket = cls(bucket_uri, access, {})
            names = {uri[len(bucket_uri) + 1 :]: uri for uri in inside}
            versions = versions_in_bucket(
                list(names), bucket_uri=bucket_uri, page=bucket._lister.page, info=bucket.info, budget_s=budget_s
            )
            found |= {names[name]: version for name, version in versions.items()}
        return [found.get(uri) for uri in uris]

    def deltalake_options(self) -> dict[str, str]:
        return deltalake_options(self._access, self._options)

    def arrow_filesystem(self) -> pa.fs.FileSystem | None:
        return arrow_filesystem(self._root, self._access, self._options)

    def _key_of(self, path: str) -> str:
        return join(self._key, path) if self._key and path else self._key or path
