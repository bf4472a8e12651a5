"""What a file really is, by its first bytes; names and declared types say nothing."""

from __future__ import annotations

from typing import Final

HEAD: Final = 64
"""Bytes that are looked at."""
_PREFIXES: Final = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"), (b"GIF87a", "image/gif"), (b"GIF89a", "image/gif"))
_BRANDS: Final = {
    b"avif": "image/avif", b"avis": "image/avif", b"qt  ": "video/quicktime", b"isom": "video/mp4", b"iso2": "video/mp4",
    b"iso4": "video/mp4", b"iso5": "video/mp4", b"iso6": "video/mp4", b"mp41": "video/mp4", b"mp42": "video/mp4",
    b"avc1": "video/mp4", b"dash": "video/mp4", b"M4V ": "video/mp4", b"M4VP": "video/mp4", b"MSNV": "video/mp4",
}
ALIKE: Final = frozenset({"video/mp4", "video/quicktime"})
"""One container under two names: phones mix them up."""


def sniffed(head: bytes) -> str | None:
    """The type of a file that begins so; None: none that is accepted."""
    for prefix, found in _PREFIXES:
        if head.startswith(prefix):
            return found
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12])
    if head.startswith(b"\x1a\x45\xdf\xa3") and b"webm" in head:
        return "video/webm"
    return None


def fits(declared: str, real: str | None) -> bool:
    """Whether a file is what it was declared to be."""
    return real == declared or (real in ALIKE and declared in ALIKE)
