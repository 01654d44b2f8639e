"""Camera topics of MCAP recordings (https://mcap.dev). Each is a video: `recording.mcap#topic=/camera/front`.

Its messages are remuxed to a temporary NUT file without decoding them, and then decoded as any other file. The time of
a frame is the log time of its message minus that of the first message that can be decoded by itself.
"""

import base64
import binascii
import io
import json
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from types import SimpleNamespace
from typing import Any, BinaryIO

import av

from pipeline.errors import CorpusError, UsageError, VideoError
from pipeline.video.failures import DamagedError, NoVideoStreamError, TooLargeError, UnknownCodecError, pyav_errors
from pipeline.video.info import VideoLimits

SUFFIX = ".mcap"
MARK = "#topic="
SCHEMAS = ("foxglove.CompressedVideo", "foxglove.CompressedImage", "sensor_msgs/CompressedImage")
"""Schemas of camera messages; `sensor_msgs/msg/CompressedImage` is ROS 2's name of the last one."""
SHOWN = 8
"""Topics that a message names at most."""
_CODECS = {"h264": "h264", "h265": "hevc"}
_PICTURES = {b"\xff\xd8\xff": "jpeg_pipe", b"\x89PNG": "png_pipe"}
_BUFFER_BYTES = 1 << 20
_NANOSECOND = Fraction(1, 10**9)


@dataclass(frozen=True, kw_only=True)
class CameraTopic:
    """A topic of a recording that holds compressed video or pictures."""

    topic: str
    log_time_ns: int
    """Log time of its first key frame, in nanoseconds: the time 0 of the video."""
    width: int
    height: int
    messages: int | None
    """As the file's statistics say, if it has any."""


def split_topic(uri: str) -> tuple[str, str | None]:
    """The URI of a recording, and the topic that its fragment names; any other URI and None."""
    file, mark, topic = uri.partition(MARK)
    return (file, topic) if mark and file.lower().endswith(SUFFIX) else (uri, None)


def camera_topics(file: BinaryIO, *, name: str) -> list[CameraTopic | CorpusError]:
    """The camera topics of a recording by name, or why one cannot be read; reads little of a file with an index.

    Raises:
        UsageError: The package mcap is not installed.
        VideoError: The file is no MCAP file or is truncated, or has no camera topic.
    """
    with _errors(name):
        reader = _reader(file)
        channels = _channels(reader)
        found: list[CameraTopic | CorpusError] = []
        for topic in sorted({channel.topic for channel, schema in channels if schema in SCHEMAS}):
            try:
                found.append(_described(reader, topic, name))
            except CorpusError as error:
                found.append(error)
        if not found:
            raise NoVideoStreamError(f"{name} has no camera topic; it has {_named(channels)}")
        return found


def _described(reader: Any, topic: str, name: str) -> CameraTopic:
    """A topic by its first key frame."""
    first = next((packet for packet in _packets(reader, topic, name) if _is_key(*packet[1:])), None)
    if first is None:
        raise NoVideoStreamError(f"{name}{MARK}{topic} has no messages with a key frame")
    time_ns, data, form = first
    with (
        pyav_errors(name, f"the first key frame of topic {topic!r} cannot be read"),
        av.open(io.BytesIO(data), format=form) as picture,
    ):
        size = picture.streams.video[0].codec_context
        width, height = size.width, size.height
    statistics = reader.get_summary() and reader.get_summary().statistics
    counts = statistics.channel_message_counts if statistics else {}
    messages = sum(counts.get(channel.id, 0) for channel, _ in _channels(reader) if channel.topic == topic)
    return CameraTopic(topic=topic, log_time_ns=time_ns, width=width, height=height, messages=messages or None)


def open_topic(file: BinaryIO, topic: str, *, name: str, limits: VideoLimits | None = None) -> BinaryIO:
    """The messages of a topic as a video file, an unnamed temporary file that the caller closes.

    Raises:
        UsageError: The package mcap is not installed.
        VideoError: The file is no MCAP file or is truncated, or the topic is missing, empty or no camera topic.
    """
    limit = (limits or VideoLimits()).max_spool_bytes
    copy = tempfile.TemporaryFile(prefix="sam2-corpus-")  # noqa: SIM115 - the caller closes it
    try:
        with _errors(name):
            reader = _reader(file)
        with pyav_errors(name, f"topic {topic!r} cannot be remuxed"):
            _remux(_packets(reader, topic, name), copy, name=f"{name}{MARK}{topic}", limit=limit)
        copy.seek(0)
        return copy
    except BaseException:
        copy.close()
        raise


def require_mcap() -> None:
    """Raise UsageError if recordings cannot be read here."""
    try:
        for package in ("mcap.reader", "mcap_protobuf.decoder", "mcap_ros1.decoder", "mcap_ros2.decoder"):
            import_module(package)
    except ImportError as error:
        raise UsageError(f"MCAP recordings need the extra mcap: pip install 'sam2-corpus[mcap]' ({error})") from error


class _JsonFactory:
    """Decodes messages in JSON, whose bytes are base64."""

    def decoder_for(self, message_encoding: str, schema: Any) -> Callable[[bytes], Any] | None:
        if message_encoding != "json" or schema is None:
            return None
        return lambda data: SimpleNamespace(**json.loads(data))


def _reader(file: BinaryIO) -> Any:
    require_mcap()
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory as Protobuf
    from mcap_ros1.decoder import DecoderFactory as Ros1
    from mcap_ros2.decoder import DecoderFactory as Ros2

    file.seek(0)
    if isinstance(file, io.RawIOBase):  # mcap would close it with a buffer of its own
        file = io.BufferedReader(file, _BUFFER_BYTES)
    factories: list[Any] = [Protobuf(), Ros1(), Ros2(), _JsonFactory()]
    return make_reader(file, decoder_factories=factories)


def _schema_name(schema: Any) -> str:
    return "no schema" if schema is None else str(schema.name).replace("/msg/", "/")


def _channels(reader: Any) -> list[tuple[Any, str]]:
    """The channels of a recording with the names of their schemas."""
    summary = reader.get_summary()
    if summary is not None and summary.channels:
        return [(each, _schema_name(summary.schemas.get(each.schema_id))) for each in summary.channels.values()]
    found = {channel.id: (channel, _schema_name(schema)) for schema, channel, _ in reader.iter_messages()}
    return list(found.values())


def _named(channels: Sequence[tuple[Any, str]]) -> str:
    return ", ".join(sorted({f"{channel.topic} ({schema})" for channel, schema in channels})[:SHOWN]) or "no topics"


def _packets(reader: Any, topic: str, name: str) -> Iterator[tuple[int, bytes, str]]:
    """Log time, bytes and FFmpeg's format of every camera message of a topic."""
    with _errors(name):
        yield from _messages(reader, topic, name)


def _messages(reader: Any, topic: str, name: str) -> Iterator[tuple[int, bytes, str]]:
    channels = _channels(reader)
    schemas = {schema for channel, schema in channels if channel.topic == topic}
    if not schemas:
        raise NoVideoStreamError(f"{name} has no topic {topic!r}; it has {_named(channels)}")
    if not schemas <= {*SCHEMAS}:
        raise NoVideoStreamError(
            f"{name}: topic {topic!r} has the schema {', '.join(sorted(schemas))}; allowed: {', '.join(SCHEMAS)}"
        )
    for schema, _, message, decoded in reader.iter_decoded_messages(topics=[topic]):
        data = decoded.data
        data = base64.b64decode(data, validate=True) if isinstance(data, str) else bytes(data)
        stated = str(decoded.format).lower()
        if _schema_name(schema) == "foxglove.CompressedVideo":
            form, allowed = _CODECS.get(stated), ", ".join(_CODECS)
        else:
            form = next((form for magic, form in _PICTURES.items() if data.startswith(magic)), None)
            allowed = "JPEG, PNG"
        if form is None:
            raise UnknownCodecError(f"{name}: topic {topic!r} holds {stated!r}; allowed: {allowed}")
        yield message.log_time, data, form


def _remux(packets: Iterator[tuple[int, bytes, str]], copy: BinaryIO, *, name: str, limit: int) -> None:
    """Write packets to a NUT file, from the first key frame on."""
    last, first, form, size = -1, 0, "", 0
    skipped = 0
    with av.open(copy, "w", format="nut") as output:
        stream: Any = None
        for time_ns, data, packet_form in packets:
            key = _is_key(data, packet_form)
            if stream is None:
                if not key:
                    skipped += 1
                    continue
                form, first = packet_form, time_ns
                with av.open(io.BytesIO(data), format=form) as template:
                    stream = output.add_stream_from_template(template.streams.video[0])
                    stream.time_base = _NANOSECOND
            if packet_form != form:
                raise UnknownCodecError(f"{name}: messages change from {form} to {packet_form}; allowed is one of them")
            size += len(data)
            if size > limit:
                raise TooLargeError(f"{name}: more than {limit} bytes, the limit for a temporary file")
            last = max(last + 1, time_ns - first)
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, last, last, _NANOSECOND
            packet.is_keyframe = key
            output.mux(packet)
    if stream is None:
        none = f"{skipped} messages, and no key frame" if skipped else "no messages"
        raise NoVideoStreamError(f"{name} has {none}")


def _is_key(data: bytes, form: str) -> bool:
    """Whether a packet can be decoded by itself: a picture, or a key frame with its parameter sets."""
    if form not in _CODECS.values():
        return True
    at, kinds = data.find(b"\0\0\1"), set()
    while at >= 0 and at + 3 < len(data):
        kinds.add(data[at + 3] & 0x1F if form == "h264" else data[at + 3] >> 1 & 0x3F)
        at = data.find(b"\0\0\1", at + 3)
    return 7 in kinds and 5 in kinds if form == "h264" else 33 in kinds and bool(kinds & {*range(16, 22)})


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """Raise a VideoError in place of the errors of damaged recordings."""
    require_mcap()
    from mcap.exceptions import DecoderNotFoundError, EndOfFile, InvalidMagic, McapError

    try:
        yield
    except CorpusError:
        raise
    except InvalidMagic as error:
        raise VideoError(f"{name}: {error}") from error
    except DecoderNotFoundError as error:
        raise UnknownCodecError(f"{name}: {error}") from error
    except EndOfFile as error:
        raise DamagedError(f"{name} is truncated; `mcap recover` writes what it holds to a new file") from error
    except (McapError, struct.error, ValueError, KeyError, AttributeError, binascii.Error) as error:
        raise DamagedError(
            f"{name} is truncated or damaged ({error}); `mcap recover` writes what it holds to a new file"
        ) from error
