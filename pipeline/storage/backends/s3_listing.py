"""S3 listings, page by page and never from a cache, at a twentieth of botocore's CPU time.

botocore spends 81 ms on parsing a page of 1000 keys, which is minutes for a corpus of millions. Here it only signs the
request (a presigned URL); answers are cut apart with regular expressions. Whatever is not a plain answer is asked again
through s3fs, whose errors are the authoritative ones.
"""

import functools
import html
import os
import re
from datetime import datetime
from typing import Any

from fsspec.asyn import sync

from pipeline.storage.listing import Entry, Page

_FIELDS = {name: re.compile(rf"<{name}>([^<]*)</{name}>") for name in ("Key", "Size", "ETag", "LastModified")}
_TRUNCATED = re.compile(r"<IsTruncated>\s*true\s*</IsTruncated>")
_TOKEN = re.compile(r"<NextContinuationToken>([^<]+)</NextContinuationToken>")
_URL_ENCODED = re.compile(r"<EncodingType>\s*url\s*</EncodingType>")
TIMEOUT_S = 60


class S3Lister:
    """Lists buckets through one s3fs file system's credentials; its calls are not retried here."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def page(self, bucket: str, prefix: str, *, start_after: str = "", token: str = "", page_keys: int = 1000) -> Page:
        """At most `page_keys` objects below a prefix, after a key or from where another page ended; paths are keys."""
        request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": page_keys}
        request |= {"StartAfter": start_after} if start_after else {}
        request |= {"ContinuationToken": token} if token else {}
        if not self._fs.requester_pays:
            status, text = self._get(request | {"EncodingType": "url"})
            if status == 200 and (page := parse_page(text)):
                return page
        answer = self._fs.call_s3("list_objects_v2", **request)
        entries = [
            Entry(item["Key"], item["Size"], item["LastModified"].timestamp(), item.get("ETag", "").strip('"') or None)
            for item in answer.get("Contents", [])
            if not item["Key"].endswith("/")
        ]
        if not answer.get("IsTruncated"):
            return Page(entries, None)
        if not (next_token := answer.get("NextContinuationToken")):
            raise OSError("the server ends a page of a listing and does not tell where the next one begins")
        return Page(entries, next_token)

    def _get(self, request: dict[str, Any]) -> tuple[int, str]:
        from botocore.awsrequest import AWSRequest

        client = self._fs.s3
        url = sync(self._fs.loop, client.generate_presigned_url, "list_objects_v2", Params=request, ExpiresIn=300)
        answer = _http(url).send(AWSRequest(method="GET", url=url).prepare())
        return answer.status_code, answer.content.decode()


def _http(url: str) -> Any:
    """The connections of this process, reached as botocore would reach the URL."""
    from botocore.utils import get_environ_proxies

    verify = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE") or True
    return _session(os.getpid(), verify, tuple(sorted(get_environ_proxies(url).items())))


@functools.lru_cache
def _session(_process: int, verify: str | bool, proxies: tuple[tuple[str, str], ...]) -> Any:
    from botocore.httpsession import URLLib3Session

    return URLLib3Session(verify=verify, proxies=dict(proxies), timeout=TIMEOUT_S, max_pool_connections=64)


def parse_page(text: str) -> Page | None:
    """A ListObjectsV2 answer; None where it is no whole one, or says that there is more and not where."""
    from botocore.compat import unquote_str

    if "<ListBucketResult" not in text[:500] or not text.rstrip().endswith("</ListBucketResult>"):
        return None
    head, *items = text.split("<Contents>")
    encoded = _URL_ENCODED.search(text) is not None
    entries = []
    for item in items:
        key = _field("Key", item)
        key = html.unescape(key) if "&" in key else key
        key = unquote_str(key) if encoded and ("%" in key or "+" in key) else key
        if key.endswith("/"):
            continue  # the mark of a folder
        etag = _field("ETag", item).replace("&quot;", "").replace("&#34;", "").strip('"')
        when = _field("LastModified", item)
        entries.append(Entry(key, int(_field("Size", item)), datetime.fromisoformat(when).timestamp(), etag or None))
    token = _TOKEN.search(head) or _TOKEN.search(items[-1] if items else "")
    if _TRUNCATED.search(text) is None:
        return Page(entries, None)
    return Page(entries, html.unescape(token[1])) if token else None


def _field(name: str, text: str) -> str:
    found = _FIELDS[name].search(text)
    return found[1] if found else ""
