"""MCAP recordings of the encodings that cameras use, written by the libraries of MCAP."""

import base64
import io
import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from mcap.writer import Writer
from mcap_protobuf.schema import build_file_descriptor_set
from mcap_ros2.writer import Writer as Ros2Writer
from PIL import Image

START_NS, STEP_NS = 1_700_000_000_000_000_000, 40_000_000
ROS2 = """std_msgs/Header header
string format
uint8[] data
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
ROS1 = """std_msgs/Header header
string format
uint8[] data
================================================================================
MSG: std_msgs/Header
uint32 seq
time stamp
string frame_id
"""


def pictures(count: int = 12) -> list[np.ndarray]:
    """Smooth frames with a square that moves, (64, 96, 3) uint8."""
    ramp = np.linspace(20, 120, 96, dtype=np.uint8)
    frames = []
    for t in range(count):
        frame = np.repeat(np.repeat(ramp[None, :, None], 64, 0), 3, 2).copy()
        frame[10:30, 4 + 3 * t : 24 + 3 * t] = (220, 40, 30)
        frames.append(frame)
    return frames


def encoded(codec: str, frames: Sequence[np.ndarray]) -> list[bytes]:
    """Annex B packets without B-frames, with two key frames."""
    encoder: Any = av.CodecContext.create({"h264": "libx264", "h265": "libx265"}[codec], "w")
    encoder.width, encoder.height, encoder.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    quiet = {"x265-params": "bframes=0:keyint=6:log-level=none:pools=1"} if codec == "h265" else {}
    encoder.options = {"bf": "0", "g": "6", "preset": "ultrafast", **quiet}
    made = []
    for t, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts, picture.time_base = t, Fraction(1, 25)
        made += [bytes(packet) for packet in encoder.encode(picture)]
    return made + [bytes(packet) for packet in encoder.encode(None)]


def as_file(codec: str, packets: Iterable[bytes], path: Path, times_ns: Sequence[int]) -> None:
    """The packets as a Matroska file, whose times are whole milliseconds."""
    packets = list(packets)
    form = {"h264": "h264", "h265": "hevc"}[codec]
    with av.open(str(path), "w") as out, av.open(io.BytesIO(packets[0]), format=form) as template:
        stream = out.add_stream_from_template(template.streams.video[0])
        for n, (data, time_ns) in enumerate(zip(packets, times_ns, strict=True)):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 1000), n % 6 == 0
            packet.pts = packet.dts = (time_ns - times_ns[0]) // 1_000_000
            out.mux(packet)


def picture_bytes(frame: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, form)
    return file.getvalue()


def message_class(name: str) -> Any:
    """A message of foxglove's protobuf schemas, with the numbers of their fields."""
    order = {"CompressedVideo": ["timestamp", "frame_id", "data", "format"],
             "CompressedImage": ["timestamp", "data", "format", "frame_id"]}[name]  # fmt: skip
    file = descriptor_pb2.FileDescriptorProto(
        name=f"foxglove/{name}.proto",
        package="foxglove",
        syntax="proto3",
        dependency=["google/protobuf/timestamp.proto"],
    )
    message = file.message_type.add(name=name)
    for number, field in enumerate(order, 1):
        kind = {"timestamp": 11, "data": 12}.get(field, 9)
        message.field.add(
            name=field,
            number=number,
            label=1,
            type=kind,
            **({"type_name": ".google.protobuf.Timestamp"} if kind == 11 else {}),
        )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"foxglove.{name}"))


def write_protobuf(path: Path, topics: dict[str, tuple[str, str, Sequence[bytes]]], times_ns: Sequence[int]) -> None:
    """A recording whose topics each have a schema, a format and messages; messages of the topics alternate."""
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=4096)
        writer.start()
        channels = {}
        for topic, (name, _, _) in topics.items():
            kind = message_class(name)
            schema = writer.register_schema(
                name=f"foxglove.{name}",
                encoding="protobuf",
                data=build_file_descriptor_set(kind).SerializeToString(),
            )
            channels[topic] = kind, writer.register_channel(topic=topic, message_encoding="protobuf", schema_id=schema)
        for n, time_ns in enumerate(times_ns):
            for topic, (_, form, packets) in topics.items():
                if n < len(packets):
                    kind, channel = channels[topic]
                    data = kind(data=packets[n], format=form, frame_id="camera").SerializeToString()
                    writer.add_message(channel, log_time=time_ns, publish_time=time_ns, data=data)
        writer.finish()


def write_json(path: Path, packets: Sequence[bytes], times_ns: Sequence[int], *, schema: str, form: str) -> None:
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        schema_id = writer.register_schema(name=schema, encoding="jsonschema", data=b"{}")
        channel = writer.register_channel(topic="/cam", message_encoding="json", schema_id=schema_id)
        for data, time_ns in zip(packets, times_ns, strict=True):
            text = json.dumps({"data": base64.b64encode(data).decode(), "format": form, "frame_id": "camera"})
            writer.add_message(channel, log_time=time_ns, publish_time=time_ns, data=text.encode())
        writer.finish()


def write_ros2(path: Path, packets: Sequence[bytes], times_ns: Sequence[int], *, form: str) -> None:
    with path.open("wb") as file:
        writer = Ros2Writer(file)
        schema = writer.register_msgdef("sensor_msgs/msg/CompressedImage", ROS2)
        for data, time_ns in zip(packets, times_ns, strict=True):
            header = {"stamp": {"sec": 0, "nanosec": 0}, "frame_id": "camera"}
            message = {"header": header, "format": form, "data": data}
            writer.write_message("/cam", schema, message, log_time=time_ns, publish_time=time_ns)
        writer.finish()


def write_ros1(path: Path, packets: Sequence[bytes], times_ns: Sequence[int], *, form: str) -> None:
    def text(value: bytes) -> bytes:
        return len(value).to_bytes(4, "little") + value

    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        schema = writer.register_schema(name="sensor_msgs/CompressedImage", encoding="ros1msg", data=ROS1.encode())
        channel = writer.register_channel(topic="/cam", message_encoding="ros1", schema_id=schema)
        for data, time_ns in zip(packets, times_ns, strict=True):
            message = bytes(12) + text(b"camera") + text(form.encode()) + text(data)
            writer.add_message(channel, log_time=time_ns, publish_time=time_ns, data=message)
        writer.finish()
