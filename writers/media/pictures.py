"""One picture: its derivatives, its perceptual hashes, and what a classifier looks at. Runs in the decoding child only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from configs.contracts.media import LARGE, POSTER, THUMB

LARGE_PX: Final = 2_048
THUMB_PX: Final = 400
PREVIEW_PX: Final = 32
"""What the blurred preview is made from: nothing finer than this is in it."""
PREVIEW: Final = "preview.webp"
SAMPLE_PX: Final = 512
HASH_PX: Final = 256
QUALITY_LEAST: Final = 50
"""PDQ's own advice: hashes of flatter pictures say nothing."""
CROPS: Final = (
    (0.05, 0.05, 0.9, 0.9), (0.1, 0.1, 0.8, 0.8), (0.1, 0, 0.9, 1), (0, 0, 0.9, 1), (0, 0.1, 1, 0.9), (0, 0, 1, 0.9),
)
"""Left, top, width and height, in parts of the whole: the middle of it, and it without one edge."""
_LOADERS: Final = (
    "VipsForeignLoadJpeg", "VipsForeignLoadPng", "VipsForeignLoadWebp", "VipsForeignLoadNsgif", "VipsForeignLoadHeif",
)


class Unacceptable(Exception):
    """The file cannot be accepted; the text is a ``RejectReason``."""


def prepare() -> None:
    """Loads the libraries, and lets libvips open nothing but the types that are accepted: no SVG, no PDF, no others."""
    import pdqhash  # noqa: F401
    import pyvips

    pyvips.operation_block_set("VipsForeignLoad", True)
    for name in _LOADERS:
        pyvips.operation_block_set(name, False)


def picture(path: Path, out: Path, *, pixels: int) -> dict[str, Any]:
    """The facts of an image file; its derivatives are written into ``out``. Raises Unacceptable."""
    import pyvips

    try:
        header = pyvips.Image.new_from_file(str(path), access="sequential", fail_on="truncated")
        pages = header.get("n-pages") if header.get_typeof("n-pages") else 1
        if header.width * header.height * pages > pixels:
            raise Unacceptable("too_large")
        # The transform costs more than the decoding, so only where there is a profile to leave.
        profile = {"output_profile": "srgb", "intent": "perceptual"} if header.get_typeof("icc-profile-data") else {}
        whole = pyvips.Image.thumbnail(
            str(path), LARGE_PX, height=LARGE_PX, size="down", fail_on="truncated", **profile
        )
        large = flat(whole).copy_memory()
    except pyvips.Error as error:
        raise Unacceptable("unreadable") from error
    facts = derivatives(large, out, LARGE)
    own, asked = hashes(large)
    return {"width": large.width, "height": large.height, "own": own, "asked": asked, **facts}


def flat(image: Any) -> Any:
    """Three bands of 8 bits in sRGB, without transparency and without whatever was written beside the picture."""
    image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=[255, 255, 255])
    return image.cast("uchar") if image.format != "uchar" else image


def derivatives(image: Any, out: Path, name: str) -> dict[str, Any]:
    """Writes the picture under its name, its thumb, preview and sample; says which of them are derivatives."""
    width = 1_280 if name == POSTER else LARGE_PX
    shown = image.thumbnail_image(width, height=width, size="down") if max(image.width, image.height) > width else image
    shown.webpsave(str(out / name), Q=80, effort=2, keep="none")
    thumb = image.thumbnail_image(THUMB_PX, height=THUMB_PX, crop="centre")
    thumb.webpsave(str(out / THUMB), Q=76, effort=2, keep="none")
    tiny = image.thumbnail_image(PREVIEW_PX, height=PREVIEW_PX, size="down").gaussblur(1).copy_memory()
    tiny.resize(8, kernel="cubic").gaussblur(6).webpsave(str(out / PREVIEW), Q=40, effort=2, keep="none")
    sample(image, out / "sample-0.jpg")
    return {"derivatives": [name, THUMB], "samples": ["sample-0.jpg"]}


def sample(image: Any, path: Path) -> None:
    """Writes what a classifier looks at."""
    image.thumbnail_image(SAMPLE_PX, height=SAMPLE_PX, size="down").jpegsave(str(path), Q=85, keep="none")


def hashes(image: Any, *, crops: bool = True) -> tuple[list[str], list[str]]:
    """(the PDQ hashes that stand for the picture on a block list, those that are looked for there), in hex.

    On the list stand the picture and crops of it; looked for are these, mirrored and turned ones too. So a mirrored,
    turned or cropped copy of a listed picture is found, and one to which a border was added.
    """
    import numpy as np
    import pdqhash

    def pixels(part: Any) -> Any:
        return part.thumbnail_image(HASH_PX, height=HASH_PX, size="force").numpy()

    def hashed(part: Any) -> str | None:
        vector, quality = pdqhash.compute(np.ascontiguousarray(part))
        return bytes(np.packbits(vector)).hex() if quality >= QUALITY_LEAST else None

    upright = pixels(image)
    first = hashed(upright)
    if first is None:
        return [], []
    turned = [np.rot90(side, turns) for side in (upright, upright[:, ::-1]) for turns in range(4)]
    own, asked = [first], [found for part in turned if (found := hashed(part)) is not None]
    for left, top, width, height in CROPS if crops else ():
        part = pixels(image.crop(
            int(left * image.width), int(top * image.height), max(1, int(width * image.width)),
            max(1, int(height * image.height)),
        ))
        found, mirrored = hashed(part), hashed(part[:, ::-1])
        own += [found] if found is not None else []
        asked += [each for each in (found, mirrored) if each is not None]
    return own, asked
