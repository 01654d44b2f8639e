"""Damage is survived, counted and flagged; what cannot be labelled fails by class."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import VideoError
from pipeline.video import FAILURE_CLASSES, VideoLimits, open_video
from tests.video.clips import Clip, backward, forward, picture, x264

GOOD = x264("good.mp4", "bframes=2", frames=60, size=(160, 120))


def failure(source: Path, **options) -> VideoError:
    with pytest.raises(VideoError) as caught, open_video(source, name=source.name, **options) as video:
        list(video.forward())
    assert caught.value.failure_class in FAILURE_CLASSES
    assert source.name in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "made",
    [
        x264("cut.mp4", "bframes=2", frames=60, container={"movflags": "faststart"}),
        x264("cut.mkv", "bframes=2", frames=60),
        Clip(name="cut.avi", codec="mpeg4", frames=60),
        Clip(name="cut-fragments.mp4", frames=60, container={"movflags": "frag_keyframe+empty_moov"}),
        Clip(name="cut.webm", codec="libvpx", frames=60, options={"deadline": "realtime"}),
    ],
    ids=lambda made: made.name,
)
def test_a_file_that_ends_early_is_labelled_as_far_as_it_goes(clip: Callable[[Clip], Path], tmp_path: Path, made: Clip):
    whole = clip(made)
    with open_video(whole, name="whole") as video:
        frames = forward(video)
        assert not video.damage.truncated
    cut = tmp_path / made.name
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with open_video(cut, name="cut") as video:
        got = forward(video)
        assert video.damage.truncated
        assert 10 < len(got) < 60
        assert got[:-3] == frames[: len(got) - 3]
        assert backward(video, len(got) - 1) == got[::-1]
    assert failure(cut, on_damaged="fail").failure_class == "damaged"


def test_bytes_behind_the_end_are_no_truncation(clip: Callable[[Clip], Path], tmp_path: Path):
    path = tmp_path / "longer.mp4"
    path.write_bytes(clip(GOOD).read_bytes() + b"left behind by some recorder")
    with open_video(path, name="longer") as video:
        assert len(forward(video)) == 60
        assert not video.damage.any


def test_a_damaged_packet_is_skipped_and_counted(shared: Path):
    path = shared / "hard" / "corrupt_h264.mp4"
    with open_video(path, name="corrupt") as video:
        assert len(forward(video)) == 49
        assert (video.damage.damaged_packets, video.damage.concealed_frames) == (1, 1)
        forward(video, 3)
        backward(video, 48)
        assert video.damage.damaged_packets == 1, "once, however often it is decoded"
    assert failure(path, on_damaged="fail").failure_class == "damaged"


def without_a_packet(path: Path, number: int) -> bytes:
    """The file with zeros in place of the packet's bytes."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
        place, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[place + 4 : place + size] = bytes(size - 4)
    return bytes(data)


def test_a_zeroed_packet_is_skipped_and_counted_once(clip: Callable[[Clip], Path], tmp_path: Path):
    whole, path = clip(x264("intra.mp4", "keyint=1", frames=20)), tmp_path / "zeroed.mp4"
    path.write_bytes(without_a_packet(whole, 7))
    with open_video(whole, name="whole") as video:
        frames = forward(video)
    with open_video(path, name="zeroed") as video:
        got = forward(video)
        assert [checksum for *_, checksum in got] == [checksum for index, _, _, checksum in frames if index != 7]
        assert video.damage.damaged_packets == 1
        forward(video, 3)
        assert backward(video, len(got) - 1) == got[::-1]
        assert video.damage.damaged_packets == 1
    assert failure(path, on_damaged="fail").failure_class == "damaged"
    with open_video(path, name="zeroed", end_s=0.2, on_damaged="fail") as video:
        assert len(forward(video)) == 5, "damage outside the segment is not its damage"


def test_damage_outside_the_segment_is_not_its(shared: Path):
    path = shared / "hard" / "truncated_derived.mp4"
    with open_video(path, name="truncated", end_s=2.0, on_damaged="fail") as video:
        assert len(forward(video)) == 60
        assert not video.damage.any


def test_timestamps_that_run_backward_are_repaired(tmp_path: Path, clip: Callable[[Clip], Path]):
    part = clip(Clip(name="part.ts", frames=20)).read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part + part)
    with open_video(joined, name="joined") as video:
        frames = forward(video)
        times = [time_s for _, time_s, *_ in frames]
        assert len(frames) == 40
        assert times == sorted(times)
        assert times == pytest.approx([index / 25 for index in range(40)], abs=0.05)
        assert video.damage.repaired_times == 20
        assert not video.damage.any
        assert backward(video, 39) == frames[::-1]


def test_a_change_of_size_is_scaled_to_the_first(tmp_path: Path, clip: Callable[[Clip], Path]):
    joined = tmp_path / "sizes.ts"
    parts = [Clip(name=f"{width}.ts", frames=10, size=(width, 64)) for width in (96, 128)]
    joined.write_bytes(b"".join(clip(part).read_bytes() for part in parts))
    with open_video(joined, name="sizes") as video:
        frames = forward(video)
        assert len(frames) == 20
        assert {shape for _, _, shape, _ in frames} == {(64, 96, 3)}
        assert video.damage.resized_frames == 10
        assert backward(video, 19) == frames[::-1]


NOT_VIDEOS = {
    "empty.mp4": b"",
    "text.mp4": b"hello world\n" * 50,
    "zeros.mp4": bytes(5000),
    "list.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/SECRET\n#EXT-X-ENDLIST\n",
    "list.ffconcat": b"ffconcat version 1.0\nfile /SECRET\n",
    "list.mpd": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    b'<Representation id="1" bandwidth="1"><BaseURL>/SECRET</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "session.sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "archive.zip": b"PK\x03\x04" + bytes(50),
}


@pytest.mark.parametrize("name", NOT_VIDEOS)
def test_not_a_video(tmp_path: Path, clip: Callable[[Clip], Path], name: str):
    path = tmp_path / name
    path.write_bytes(NOT_VIDEOS[name].replace(b"/SECRET", bytes(clip(GOOD))))
    assert failure(path).failure_class == "not_a_video"


def test_mp4s_that_point_to_other_files_do_not_open_them(tmp_path: Path, clip: Callable[[Clip], Path]):
    """A data reference names another file; FFmpeg would follow it under `enable_drefs`."""
    data = bytearray(clip(GOOD).read_bytes())
    at = data.index(b"url ")
    data[at : at + 8] = b"alis" + bytes(4)
    path = tmp_path / "pointing.mp4"
    path.write_bytes(data)
    with open_video(path, name="pointing") as video:
        assert len(forward(video)) == 60


def test_no_video_stream(shared: Path):
    assert failure(shared / "hard" / "audio_only.mp4").failure_class == "no_video_stream"
    assert failure(shared / "hard" / "header_only_derived.mp4").failure_class == "no_video_stream"


def test_sound_alone_and_a_bare_header_have_no_video_stream(clip: Callable[[Clip], Path], tmp_path: Path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        sound = out.add_stream("aac", rate=48000)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), "float32"), format="fltp", layout="stereo")
        silence.sample_rate = 48000
        out.mux(sound.encode(silence))
        out.mux(sound.encode(None))
    (tmp_path / "header.mp4").write_bytes(clip(GOOD).read_bytes()[:32] + b"\0\0\x30\xe9moov")
    for name in ("sound.mp4", "header.mp4"):
        assert failure(tmp_path / name).failure_class == "no_video_stream"
        assert failure(tmp_path / name, isolate=True).failure_class == "no_video_stream"


def test_a_cover_picture_is_no_video(tmp_path: Path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        sound, cover = out.add_stream("aac", rate=48000), out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame.from_ndarray(picture(0, 64, 48), format="rgb24")))
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), "float32"), format="fltp", layout="stereo")
        silence.sample_rate = 48000
        out.mux(sound.encode(silence))
        out.mux(sound.encode(None))
    error = failure(path)
    assert error.failure_class == "no_video_stream"
    assert "it holds audio, cover picture" in str(error)


def test_animated_webp_is_read_where_ffmpeg_does_and_refused_elsewhere(tmp_path: Path):
    path = tmp_path / "animated.webp"
    images = [Image.fromarray(picture(index, 48, 32)) for index in range(4)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=100, lossless=True)
    try:
        with open_video(path, name="animated") as video:
            assert len(forward(video)) == 4
    except VideoError as error:
        assert error.failure_class == "no_frames"  # noqa: PT017 - FFmpeg 8.1 opens it and decodes nothing


def test_an_initialisation_segment_has_no_frames(clip: Callable[[str], Path], tmp_path: Path):
    data = clip("fragmented.mp4").read_bytes()
    path = tmp_path / "init.mp4"
    path.write_bytes(data[: data.index(b"moof") - 4])
    assert failure(path).failure_class == "no_frames"


def test_a_segment_beyond_the_end_has_no_frames(clip: Callable[[Clip], Path]):
    error = failure(clip(GOOD), start_s=50.0)
    assert error.failure_class == "no_frames"
    assert "no frame from 50 s to the end" in str(error)


def test_encrypted(clip: Callable[[Clip], Path]):
    scheme = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 32, "encryption_kid": "1" * 32}
    assert failure(clip(Clip(name="encrypted.mp4", frames=5, container=scheme))).failure_class == "encrypted"


def test_unknown_codec(clip: Callable[[Clip], Path], tmp_path: Path):
    path = tmp_path / "unknown.mp4"
    path.write_bytes(clip(GOOD).read_bytes().replace(b"avc1", b"zzz1"))
    assert failure(path).failure_class == "unknown_codec"


def test_a_frame_beyond_the_limit(clip: Callable[[Clip], Path]):
    error = failure(clip(GOOD), limits=VideoLimits(max_pixels=160 * 119))
    assert error.failure_class == "too_large"
    assert "160 x 120" in str(error)


def test_more_frames_than_the_limit(clip: Callable[[Clip], Path]):
    assert failure(clip(GOOD), limits=VideoLimits(max_frames=30)).failure_class == "too_large"


def test_no_frame_for_too_long_is_a_hang(clip: Callable[[Clip], Path], monkeypatch):
    limits = VideoLimits(stall_s=0.05)
    monkeypatch.setattr(
        "pipeline.video.container.VideoDecoder._decode", lambda *_: __import__("time").sleep(0.02) or []
    )
    assert failure(clip(GOOD), limits=limits).failure_class == "hang"


def test_wrong_rates_and_durations_are_ignored(clip: Callable[[Clip], Path], tmp_path: Path):
    data = bytearray(clip(GOOD).read_bytes())
    for box in (b"mvhd", b"mdhd"):
        at = data.index(box) + 4 + 4 + 4 + 4 + 4  # version and flags, two dates, time scale
        data[at : at + 4] = (10**9).to_bytes(4)
    path = tmp_path / "lying.mp4"
    path.write_bytes(data)
    with open_video(clip(GOOD), name="good") as good, open_video(path, name="lying") as video:
        frames = forward(video)
        assert frames == forward(good)
        assert video.info.fps == pytest.approx(25)
        assert not video.damage.any


def test_wrong_options_are_named(clip: Callable[[Clip], Path]):
    with pytest.raises(ValueError, match="on_damaged must be label or fail, not 'skip'"):
        open_video(clip(GOOD), name="good", on_damaged="skip")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="end_s must be after start_s"):
        open_video(clip(GOOD), name="good", start_s=2, end_s=Fraction(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"VideoLimits\.max_pixels must be positive, not 0"):
        VideoLimits(max_pixels=0)


def test_a_stream_that_appears_later_does_not_disturb(clip: Callable[[Clip], Path], tmp_path: Path):
    """PyAV's demux raises IndexError there; broken MPEG-TS files show streams that are none, too."""
    path = tmp_path / "later.ts"
    with av.open(str(path), "w") as out:
        video, sound = out.add_stream("libx264", rate=25), out.add_stream("mp2", rate=48000)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(picture(index, 160, 120), format="rgb24")
            out.mux(video.encode(frame))
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152 * 2), "int16"), format="s16", layout="stereo")
            silence.sample_rate = 48000
            out.mux(sound.encode(silence))
        out.mux(video.encode(None))
    alone = clip(Clip(name="alone.ts", frames=400, size=(160, 120)))
    path.write_bytes(alone.read_bytes() + path.read_bytes())
    with open_video(path, name="later") as got:
        assert len(forward(got)) == 420


def test_colours_that_do_not_exist_are_named_with_the_frame(tmp_path: Path):
    path = tmp_path / "colours.mpg"
    with av.open(str(path), "w", format="mpeg") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.color_primaries = stream.codec_context.color_trc = stream.codec_context.colorspace = 1
        for shade in range(6):
            image = np.full((64, 96, 3), 40 * shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    data, display_extension = path.read_bytes(), b"\0\0\1\xb5\x2b"
    assert data.count(display_extension + b"\1\1\1") == 6
    path.write_bytes(data.replace(display_extension + b"\1\1\1", display_extension + bytes((34, 35, 65))))
    assert "frame 0 cannot be converted to RGB (pixels yuv420p, color space 65" in str(failure(path))
