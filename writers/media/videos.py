"""One video: an HLS ladder, a poster, and hashes of pictures from it. Runs in the decoding child only."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from configs.contracts.media import POSTER, SEGMENTS
from writers.media.pictures import Unacceptable, derivatives, hashes
from writers.media.sampling import Sampling

HEIGHTS: Final = (360, 720)
"""Steps of the ladder, as far as the video itself goes."""
RATES: Final = {360: 900_000, 720: 2_800_000}
"""Bits a second at the peak, of the picture."""
SOUND_RATE: Final = 128_000
KEYFRAME_S: Final = 2
SEGMENT_S: Final = 4
FRAMES_A_SECOND: Final = 120
SIDE_PX: Final = 4_096
POSTER_AT: Final = 1 / 16
"""Where the poster is, as a share of the announced length."""
USUAL_S: Final = 10
"""Length of a video that announces none, as browsers record them; it decides about the poster only."""
DECODED_LEAST: Final = 0.9
"""Share of the announced length that must be there; less is a file that was cut off."""
_FORMATS: Final = {"video/webm": "matroska"}
_TURNS: Final = {90: "transpose=cclock,", -90: "transpose=clock,", 180: "hflip,vflip,", -180: "hflip,vflip,"}
_SEGMENT: Final = re.compile(r"#EXTINF:([0-9.]+),\n#EXT-X-BYTERANGE:(\d+)@(\d+)")
_INIT: Final = re.compile(r'#EXT-X-MAP:URI="[^"]*",BYTERANGE="(\d+)@0"')


def prepare() -> None:
    """Loads the libraries."""
    import av

    av.logging.set_level(None)


class Step:
    """One rendition being written."""

    def __init__(self, out: Path, height: int, width: int, rate: Fraction, sound: Any, turn: str) -> None:
        import av

        self.height, self.width = height, width
        self.name = SEGMENTS.format(height=height)
        self._playlist = out / f"{self.name}.m3u8"
        self._file = out / self.name
        self._turn = turn
        self._graph: Any = None
        self._container = av.open(str(self._playlist), "w", format="hls", options={
            "hls_time": str(SEGMENT_S), "hls_playlist_type": "vod", "hls_segment_type": "fmp4", "hls_flags": "single_file",
            "hls_segment_filename": str(self._file),
        })
        most = RATES.get(height, RATES[360])
        self._shown: Any = self._container.add_stream("libx264", rate=rate, options={
            "preset": "veryfast", "crf": "23", "maxrate": str(most), "bufsize": str(2 * most), "sc_threshold": "0", "threads": "1",
        })
        self._shown.width, self._shown.height, self._shown.pix_fmt = width, height, "yuv420p"
        self._shown.codec_context.gop_size = max(1, round(rate * KEYFRAME_S))
        self._heard: Any = None
        if sound is not None:
            self._heard = self._container.add_stream("aac", rate=48_000, layout="stereo")
            self._heard.bit_rate = SOUND_RATE

    def show(self, frame: Any) -> None:
        """Encodes one picture."""
        if self._graph is None:
            import av

            graph = av.filter.Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
            scale = f"{self._turn}scale={self.width}:{self.height},format=yuv420p"
            last = source
            for text in scale.split(","):
                name, _, arguments = text.partition("=")
                made = graph.add(name, arguments or None)
                last.link_to(made)
                last = made
            last.link_to(graph.add("buffersink"))
            graph.configure()
            self._graph = graph
        self._graph.push(frame)
        scaled = self._graph.pull()
        scaled.pict_type = 0
        self._container.mux(self._shown.encode(scaled))

    def hear(self, frame: Any) -> None:
        """Encodes some sound."""
        if self._heard is not None:
            self._container.mux(self._heard.encode(frame))

    def finish(self) -> dict[str, Any]:
        """The facts of the rendition, whose playlist is made anew for each viewer."""
        self._container.mux(self._shown.encode())
        if self._heard is not None:
            self._container.mux(self._heard.encode())
        self._container.close()
        text = self._playlist.read_text()
        self._playlist.unlink()
        init = _INIT.search(text)
        found = _SEGMENT.findall(text)
        if init is None or not found:
            raise Unacceptable("unreadable")
        start = int(init.group(1))
        segments = []
        for seconds, size, at in found:
            if int(at) != start:
                raise Unacceptable("unreadable")
            start += int(size)
            segments.append((round(float(seconds) * 1_000), int(size)))
        peak = max(size * 8_000 // max(1, milliseconds) for milliseconds, size in segments)
        return {
            "name": self.name, "width": self.width, "height": self.height, "bandwidth": peak, "initBytes": int(init.group(1)),
            "codecs": _codecs(self._file, sound=self._heard is not None),
            "segments": ",".join(f"{milliseconds}:{size}" for milliseconds, size in segments),
        }


def _codecs(path: Path, *, sound: bool) -> str:
    """RFC 6381 names of what is in a file: profile and level stand in its avcC box."""
    with path.open("rb") as file:
        head = file.read(8_192)
    place = head.find(b"avcC")
    shown = f"avc1.{head[place + 5 : place + 8].hex()}" if place >= 0 else "avc1.640028"
    return f"{shown},mp4a.40.2" if sound else shown


def video(path: Path, out: Path, *, content_type: str, pixels: int, seconds: int) -> dict[str, Any]:
    """The facts of a video file; its renditions and pictures are written into ``out``. Raises Unacceptable."""
    import av

    try:
        with av.open(
            str(path), format=_FORMATS.get(content_type, "mov"), options={"protocol_whitelist": "file"}, metadata_errors="ignore"
        ) as container:
            return _transcoded(container, out, pixels=pixels, seconds=seconds)
    except (av.error.FFmpegError, ValueError, OSError, IndexError) as error:
        raise Unacceptable("unreadable") from error


def _transcoded(container: Any, out: Path, *, pixels: int, seconds: int) -> dict[str, Any]:
    if not container.streams.video:
        raise Unacceptable("unreadable")
    shown = container.streams.video[0]
    sound = container.streams.audio[0] if container.streams.audio else None
    rate = Fraction(shown.average_rate or 25)
    if shown.width * shown.height > pixels or max(shown.width, shown.height) > SIDE_PX or not shown.width:
        raise Unacceptable("too_large")
    announced = (container.duration or 0) / 1_000_000
    if announced > seconds:
        raise Unacceptable("too_long")
    if rate <= 0 or rate > FRAMES_A_SECOND:
        raise Unacceptable("unreadable")
    decoding = _Decoding(out, rate, sound, announced, seconds)
    for packet in container.demux([stream for stream in (shown, sound) if stream is not None]):
        for frame in packet.decode():
            if isinstance(frame, _video_frame()):
                decoding.show(frame)
            else:
                decoding.hear(frame)
    return decoding.finish(announced)


def _video_frame() -> Any:
    import av

    return av.VideoFrame


class _Decoding:
    """What is made of the frames of one video as they come."""

    def __init__(self, out: Path, rate: Fraction, sound: Any, announced: float, seconds: int) -> None:
        self._out = out
        self._rate = rate
        self._sound = sound
        self._seconds = seconds
        self._sampling = Sampling(out)
        self._poster_s = (announced or USUAL_S) * POSTER_AT
        self._steps: list[Step] = []
        self._frames = 0
        self._last_s = 0.0
        self._size = (0, 0)
        self._poster: Any = None
        self._on_screen: Any = None
        self._since_s = 0.0
        self._turn = ""

    def show(self, frame: Any) -> None:
        if not self._steps:
            self._begin(frame)
        self._frames += 1
        before_s = self._last_s
        if frame.time is not None:
            self._last_s = max(self._last_s, float(frame.time))
        if self._last_s > self._seconds or self._frames > self._seconds * FRAMES_A_SECOND:
            raise Unacceptable("too_long")
        # Each picture counts for some time, so that nothing hides behind false times of its own.
        self._look(self._since_s + max(self._last_s - before_s, 1 / FRAMES_A_SECOND))
        self._on_screen = frame
        for step in self._steps:
            step.show(frame)

    def hear(self, frame: Any) -> None:
        if frame.time is not None and float(frame.time) > self._seconds + 1:
            raise Unacceptable("too_long")
        for step in self._steps:
            step.hear(frame)

    def _begin(self, frame: Any) -> None:
        turned = round(getattr(frame, "rotation", 0) or 0)
        self._turn = _TURNS.get(turned, "")
        width, height = frame.width, frame.height
        if abs(turned) == 90:
            width, height = height, width
        short = min(width, height)
        self._size = (width, height)
        for step in [size for size in HEIGHTS if size <= short] or [short]:
            scale = step / short
            self._steps.append(Step(
                self._out, _even(height * scale), _even(width * scale), self._rate, self._sound, self._turn
            ))

    def _look(self, until_s: float) -> None:
        """Looks at the picture that is on screen until then, if it is one of those that stand for the whole."""
        if self._on_screen is None:
            return
        poster = self._poster is None or self._since_s <= self._poster_s < until_s
        wanted = self._sampling.wants(self._since_s, until_s)
        if poster or wanted:
            image = self._upright(self._on_screen)
            if wanted:
                self._sampling.see(image, self._since_s, until_s)
            if poster:
                self._poster = image.copy_memory()
        self._since_s = until_s

    def _upright(self, frame: Any) -> Any:
        import pyvips

        image = pyvips.Image.new_from_array(frame.to_ndarray(format="rgb24")).copy(interpretation="srgb")
        return {"transpose=clock,": image.rot90, "transpose=cclock,": image.rot270, "hflip,vflip,": image.rot180}.get(
            self._turn, image.copy
        )()

    def finish(self, announced: float) -> dict[str, Any]:
        self._look(math.inf)
        if self._poster is None or self._last_s + 1 / float(self._rate) < announced * DECODED_LEAST:
            raise Unacceptable("unreadable")
        facts = derivatives(self._poster, self._out, POSTER)
        renditions = [step.finish() for step in self._steps]
        pairs = [hashes(self._poster, crops=False), *((seen.own, seen.asked) for seen in self._sampling.kept)]
        return {
            "width": self._size[0], "height": self._size[1], "durationMs": round(1_000 * (self._last_s + 1 / float(self._rate))),
            "own": list(dict.fromkeys(each for own, _ in pairs for each in own)),
            "asked": list(dict.fromkeys(each for _, asked in pairs for each in asked)), "renditions": renditions,
            "derivatives": facts["derivatives"] + [rendition["name"] for rendition in renditions],
            "samples": facts["samples"] + self._sampling.samples(),
        }


def _even(value: float) -> int:
    return max(2, round(value / 2) * 2)
