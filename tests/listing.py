"""A read-only S3 server on loopback for corpora of millions: listings from memory, objects from a folder, all late.

    python -m tests.listing FOLDER DELAY_S

FOLDER/BUCKET/keys.txt names a bucket's keys that are only listed, sorted, one a line; FOLDER/BUCKET/objects holds those
that can be read as well. The server prints its URL and runs until it is killed.
"""

import asyncio
import bisect
import hashlib
import re
import sys
import time
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

WHEN = "2026-01-01T00:00:00.000Z"


class Bucket:
    """What a bucket holds."""

    def __init__(self, folder: Path) -> None:
        self.objects = folder / "objects"
        listed = folder / "keys.txt"
        self.keys = listed.read_text().splitlines() if listed.exists() else []
        found = [path.relative_to(self.objects).as_posix() for path in self.objects.rglob("*") if path.is_file()]
        self.keys = sorted([*self.keys, *found]) if found else self.keys

    def list(self, query: dict[str, str]) -> str:
        """A ListObjectsV2 answer."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        shown = quote if query.get("encoding-type") == "url" else escape
        start = max(query.get("continuation-token", ""), query.get("start-after", ""))
        at = bisect.bisect_right(self.keys, start) if start >= prefix else bisect.bisect_left(self.keys, prefix)
        items, groups, limit = [], {}, int(query.get("max-keys", 1000))
        last = ""
        while at < len(self.keys) and self.keys[at].startswith(prefix) and len(items) + len(groups) < limit:
            last = self.keys[at]
            rest = last[len(prefix) :]
            if delimiter and delimiter in rest:
                group = prefix + rest.partition(delimiter)[0] + delimiter
                groups[group] = None
                at = bisect.bisect_left(self.keys, group[:-1] + chr(ord(group[-1]) + 1))
                last = self.keys[at - 1]
                continue
            items.append(
                f"<Contents><Key>{shown(last)}</Key><LastModified>{WHEN}</LastModified><ETag>&quot;{etag(last)}&quot;"
                f"</ETag><Size>{self.size(last)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
            at += 1
        more = at < len(self.keys) and self.keys[at].startswith(prefix)
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if more else ""
        prefixes = "".join(f"<CommonPrefixes><Prefix>{shown(g)}</Prefix></CommonPrefixes>" for g in groups)
        encoding = "<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Prefix>{shown(prefix)}</Prefix><KeyCount>{len(items) + len(groups)}</KeyCount>{encoding}"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(items)}{prefixes}</ListBucketResult>"
        )

    def size(self, key: str) -> int:
        path = self.objects / key
        return path.stat().st_size if path.is_file() else 1_000_000


def etag(key: str) -> str:
    """Of a key's last segment: it stays when a bucket is renamed."""
    return hashlib.md5(key.rpartition("/")[2].encode(), usedforsecurity=False).hexdigest()


async def serve(folder: Path, delay_s: float) -> None:
    buckets = {path.name: Bucket(path) for path in folder.iterdir()}

    def answer(target: str, headers: dict[str, str]) -> tuple[str, list[str], bytes]:
        url = urlsplit(target)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        if "list-type" in query:
            return "200 OK", ["Content-Type: application/xml"], buckets[bucket].list(query).encode()
        path = buckets[bucket].objects / key if bucket in buckets else Path("/nowhere")
        if not path.is_file():
            return "404 Not Found", [], b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
        data = path.read_bytes()
        more = [f'ETag: "{etag(key)}"', f"Last-Modified: {formatdate(path.stat().st_mtime, usegmt=True)}"]
        if found := re.match(r"bytes=(\d*)-(\d*)", headers.get("range", "")):
            first = int(found[1]) if found[1] else len(data) - int(found[2])
            last = min(len(data) - 1, int(found[2])) if found[1] and found[2] else len(data) - 1
            more.append(f"Content-Range: bytes {first}-{last}/{len(data)}")
            return "206 Partial Content", more, data[first : last + 1]
        return "200 OK", more, data

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
                method, target, _ = head[0].split(" ")
                headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in head[1:])}
                asked = time.monotonic()
                status, more, body = answer(target, headers)
                await asyncio.sleep(max(0.0, asked + delay_s - time.monotonic()))
                lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more, "", ""]
                writer.write("\r\n".join(lines).encode() + (b"" if method == "HEAD" else body))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2])))
