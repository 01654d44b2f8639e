"""One pass of FFmpeg over a file: restricted demuxers, one stream, decoding that continues after damaged packets."""

from collections.abc import Iterator
from fractions import Fraction
from typing import NoReturn

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.video.failures import (
    EncryptedError,
    HangError,
    NotAVideoError,
    NoVideoStreamError,
    TooLargeError,
    UnknownCodecError,
    pyav_errors,
    reason,
)
from pipeline.video.info import VideoLimits
from pipeline.video.input_file import DemuxerInput, InputFile

# Demuxers that read only the bytes they are given. Playlists (hls, dash, concat, sdp, image2, ...) could read other
# files or the network: they are left out, and both kinds of nested opening are refused below as well.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,webp,webp_anim,webp_pipe,jpeg_pipe,png_pipe,bmp_pipe,"
    "tiff_pipe,ivf,obu,h264,hevc,vvc,av1,m4v,mjpeg,mxf,nut,yuv4mpegpipe,rm,dv,3gp,wtv,vc1,h261,h263,avif,evc,swf"
)
_BUFFER_BYTES = 1 << 17
_MAX_DEMUX_ERRORS = 100
_MAX_TIMESTAMP = 1 << 62


class VideoDecoder:
    """The decoder of one video stream of a container. Not thread-safe; gives frames in presentation order.

    Decoding is single-threaded, because labels must not depend on the number of cores. With frame threads FFmpeg drops
    the last frames of a truncated file without an error; with any threads it conceals damage differently.
    """

    def __init__(self, file: InputFile, limits: VideoLimits, *, key_frames_only: bool = False) -> None:
        self._file, self._limits = file, limits
        self._input = DemuxerInput(file, timeout_s=limits.stall_s)
        self._container = _open(self._input, file, limits)
        try:
            with pyav_errors(file.name, "its streams cannot be read"):
                self.stream = _video_stream(self._container, file.name)
                _check_size(self.stream, file.name, limits)
                for other in self._container.streams:
                    if other is not self.stream:
                        other.discard = av.stream.Discard.all  # so that their bytes are not even read
                context = self.stream.codec_context
                context.thread_type = av.codec.context.ThreadType.SLICE
                context.thread_count = 1
                if key_frames_only:
                    context.skip_frame = "NONKEY"  # FFmpeg then decodes nothing else
                context.options = {"max_pixels": str(limits.max_pixels)}
        except BaseException:
            self._container.close()
            raise
        self.damaged: set[int] = set()
        """Byte positions of damaged packets in the file."""
        self.last_error: Exception | None = None
        self.partial = False
        """The last packet was cut short by the end of the file."""
        self.last_time: int | None = None
        """Latest timestamp of a packet, of the kind in the container's index: decoding times in MP4."""
        self._reorder_depth = 0
        self._unread = 0

    @property
    def time_base(self) -> Fraction:
        return self.stream.time_base or Fraction(1, av.time_base)

    @property
    def format(self) -> str:
        return self._container.format.name

    @property
    def by_dts(self) -> bool:
        """Whether frames are timed by decoding times: AVI stores no others, and FFmpeg's guesses are often wrong."""
        return self.format == "avi"

    @property
    def duration_s(self) -> float | None:
        duration = self._container.duration
        return None if duration is None or duration < 0 else duration / av.time_base

    @property
    def video_streams(self) -> int:
        return len(self._container.streams.video)

    def frames(self, *, from_key: bool = False) -> Iterator[VideoFrame]:
        """Frames from the current position; with `from_key`, packets before the next key packet are skipped."""
        self._input.restart()
        for packet in self._packets():
            if from_key and packet.size and not packet.is_keyframe:
                continue
            from_key = False
            for frame in self._decode(packet):
                yield frame
                self._input.restart()

    def packets(self) -> Iterator["Packet[VideoStream]"]:
        """Packets from the current position, without decoding them."""
        for packet in self._packets():
            self._input.restart()
            yield packet

    def seek(self, timestamp: int) -> None:
        """Seek to the key frame before `timestamp` (in the stream's time base), as exactly as the format allows."""
        context = self.stream.codec_context
        self._reorder_depth = max(self._reorder_depth, context.reorder_depth)
        self._input.restart()
        try:
            self._container.seek(max(-_MAX_TIMESTAMP, min(timestamp, _MAX_TIMESTAMP)), stream=self.stream)
        finally:
            self._check_input()
        # A flush may reset the learnt depth, and frames would then come out of order (PyAV's `reorder_depth`).
        context.reorder_depth = self._reorder_depth

    def promised_more(self) -> bool:
        """Whether the container's index lists frames that the file does not hold; called at the end of the file."""
        index = self.stream.index_entries
        if self.partial:
            return True
        return bool(len(index)) and self.last_time is not None and index[-1].timestamp > self.last_time

    def close(self) -> None:
        self._container.close()

    def _packets(self) -> Iterator["Packet[VideoStream]"]:
        errors = 0
        packets = self._container.demux(self.stream)
        while errors < _MAX_DEMUX_ERRORS:
            try:
                packet = next(packets)
                self._check_input()
            except StopIteration:
                self._check_input()
                return
            except IndexError:
                # A packet of a stream that appeared only now (MPEG-TS), which PyAV's demux does not expect.
                packets = self._container.demux(self.stream)
                continue
            except Exception as error:  # whatever PyAV raises, the packet is damaged
                self._check_input()
                self.last_error = error
                errors += 1
                self._unread += 1
                self.damaged.add(-self._unread)
                packets = self._container.demux(self.stream)
                continue
            errors = 0
            if packet.size:
                if packet.has_sidedata("encryption_info"):
                    raise EncryptedError(f"{self._file.name}: the video stream is encrypted")
                self.partial = packet.is_corrupt
                for time_ in (packet.dts,) if self.format.startswith("mov") else (packet.dts, packet.pts):
                    if time_ is not None and (self.last_time is None or time_ > self.last_time):
                        self.last_time = time_
            yield packet

    def _decode(self, packet: "Packet[VideoStream]") -> list[VideoFrame]:
        try:
            return packet.decode()
        except av.error.DecoderNotFoundError as error:
            raise UnknownCodecError(f"{self._file.name}: no decoder: {error}") from error
        except Exception as error:
            self.last_error = error
            place = packet.pos if packet.pos is not None and packet.pos >= 0 else packet.dts
            self.damaged.add(place if place is not None else -1)
        return [] if packet.size else self._drain()

    def _drain(self) -> list[VideoFrame]:
        """Frames still in the decoder after an error in the flush."""
        frames: list[VideoFrame] = []
        for _ in range(64):
            try:
                frames += self.stream.codec_context.decode(None)
            except EOFError:
                break
            except Exception as error:
                self.last_error = error
        return frames

    def _check_input(self) -> None:
        """Raise the real error if the input seems to end because of storage or the time limit."""
        self._file.check()
        if self._input.timed_out:
            raise HangError(f"{self._file.name}: no frame within {self._limits.stall_s:g} s of decoding")


def _open(demuxer_input: DemuxerInput, file: InputFile, limits: VideoLimits) -> InputContainer:
    def refuse(url: str, _flags: int, _options: dict[str, str]) -> NoReturn:
        raise PermissionError(f"{file.name}: refers to another file, {url!r}; only the video itself is read")

    failure: Exception | None = None
    try:
        container = av.open(
            demuxer_input,
            mode="r",
            options={
                "format_whitelist": _FORMATS,
                "protocol_whitelist": "none",
                "max_pixels": str(limits.max_pixels),
                "max_streams": "100",
            },
            metadata_errors="replace",
            buffer_size=_BUFFER_BYTES,
            io_open=refuse,
        )
    except Exception as error:
        failure = error
    file.check()
    if demuxer_input.timed_out:
        raise HangError(f"{file.name}: cannot be opened within {limits.stall_s:g} s")
    if failure is None:
        return container
    if isinstance(failure, av.error.ArgumentError):
        raise NotAVideoError(f"{file.name}: a playlist, or another format that is not allowed") from failure
    raise NotAVideoError(f"{file.name}: not a video that can be read: {reason(failure)}") from failure


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    best = container.streams.best("video")
    if best is not None and best.disposition & Disposition.attached_pic:
        best = next((s for s in container.streams.video if not s.disposition & Disposition.attached_pic), None)
    if best is None:
        kinds = ", ".join("cover picture" if s.type == "video" else s.type for s in container.streams) or "nothing"
        raise NoVideoStreamError(f"{name}: no video stream (it holds {kinds})")
    assert isinstance(best, VideoStream)
    if best.codec_context is None:
        raise UnknownCodecError(f"{name}: the video's codec is unknown to the installed FFmpeg")
    return best


def _check_size(stream: VideoStream, name: str, limits: VideoLimits) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > limits.max_pixels:
        raise TooLargeError(f"{name}: frames of {width} x {height}, more than {limits.max_pixels} pixels")
