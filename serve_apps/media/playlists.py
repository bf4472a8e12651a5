"""HLS playlists of a video, made when they are asked for: every segment is a byte range behind a signed URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from configs.contracts.media import MediaRecord, Rendition

TYPE: Final = "application/vnd.apple.mpegurl"


def master(record: MediaRecord, link: Callable[[str], str]) -> str:
    """The master playlist; ``link``: the URL of a rendition's own playlist."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for rendition in record.renditions:
        lines.append(
            f"#EXT-X-STREAM-INF:BANDWIDTH={rendition.bandwidth},RESOLUTION={rendition.width}x{rendition.height},"
            f'CODECS="{rendition.codecs}"'
        )
        lines.append(link(rendition.name))
    return "\n".join(lines) + "\n"


def media(rendition: Rendition, url: str) -> str:
    """The playlist of one rendition, whose object is at a URL."""
    segments = [tuple(map(int, text.split(":"))) for text in rendition.segments.split(",")]
    longest = max(milliseconds for milliseconds, _ in segments)
    lines = [
        "#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{-(-longest // 1_000)}", "#EXT-X-PLAYLIST-TYPE:VOD",
        f'#EXT-X-MAP:URI="{url}",BYTERANGE="{rendition.init_bytes}@0"',
    ]
    start = rendition.init_bytes
    for milliseconds, size in segments:
        lines += [f"#EXTINF:{milliseconds / 1_000:.3f},", f"#EXT-X-BYTERANGE:{size}@{start}", url]
        start += size
    return "\n".join([*lines, "#EXT-X-ENDLIST"]) + "\n"
