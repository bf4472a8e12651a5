"""Pictures with their viewer's id drawn into them, made when they are asked for and kept for a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from cluster.connections.media.store import MediaStore
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.media import derivative_key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AT_ONCE: Final = 2
"""Pictures that one replica makes at a time; each holds some 30 MB."""
WAITING: Final = 32
"""Requests that wait for one; more are told to come again."""
KEPT_BYTES: Final = 32 << 20
MOST_BYTES: Final = 32 << 20
"""Of a derivative: 2,048 pixels a side, in WebP."""
DEADLINE_S: Final = 25.0
GLYPHS: Final = (
    "75557", "26227", "71747", "71717", "55711", "74717", "74757", "71111",
    "75757", "75717", "75755", "65656", "74447", "65556", "74747", "74744",
)
"""Of each hexadecimal digit the five rows of a 3 × 5 picture, a digit a row (its bits): no fonts are needed."""


class Marking:
    """Makes marked pictures, a few at once, and keeps the newest."""

    def __init__(self, store: MediaStore) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[str, str, str], bytes] = OrderedDict()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def picture(self, media_id: str, derivative: str, viewer_id: str) -> bytes:
        """A derivative of a media, which is a picture in WebP, with the viewer's id on it.

        Raises ObjectMissing: there is no such picture. DependencyUnavailable: too many wait, or the store does not answer.
        """
        name = (media_id, derivative, viewer_id)
        if (known := self._kept.get(name)) is not None:
            self._kept.move_to_end(name)
            return known
        if self._waiting >= WAITING:
            raise DependencyUnavailable("too many pictures are being made")
        self._waiting += 1
        try:
            async with asyncio.timeout(DEADLINE_S), self._slots:
                made = await asyncio.to_thread(self._make, *name)
        except TimeoutError as error:
            raise DependencyUnavailable("the picture was not made in time") from error
        finally:
            self._waiting -= 1
        self._kept[name] = made
        while sum(map(len, self._kept.values())) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return made

    def _make(self, media_id: str, derivative: str, viewer_id: str) -> bytes:
        import pyvips

        with TemporaryDirectory() as directory:
            path = Path(directory) / derivative
            self._store.fetch(derivative_key(media_id, derivative), path, MOST_BYTES)
            pixels = pyvips.Image.webpload(str(path)).numpy()
        made: bytes = pyvips.Image.new_from_array(marked(pixels, viewer_id)).webpsave_buffer(Q=80, effort=2, keep="none")
        return made


def marked(pixels: NDArray[np.uint8], viewer_id: str) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 of a picture with an id all over it, a quarter of the way to white, its shadow to black."""
    mask = mask_of(viewer_id, pixels.shape[0], pixels.shape[1])
    shadow = _moved(mask) & ~mask
    out = pixels.copy()
    out[mask] = (out[mask].astype("uint16") * 3 + 255) // 4
    out[shadow] = (out[shadow].astype("uint16") * 3) // 4
    return out


def mask_of(viewer_id: str, height: int, width: int) -> NDArray[np.bool_]:
    """(height, width) bool: where the digits of an id are, repeated over the whole; in two lines of 16, half as wide as the picture."""
    import numpy as np

    digits = viewer_id.replace("-", "")
    lines = []
    for line in (digits[:16], digits[16:]):
        rows = [[int(bit) for digit in line for bit in f"{int(GLYPHS[int(digit, 16)][row]):03b}0"] for row in range(5)]
        lines += [*rows, [0] * 64, [0] * 64]
    tile = np.pad(np.array(lines, dtype=bool), ((0, 14), (0, 16)))
    scale = max(1, width // (2 * tile.shape[1]))
    tile = tile.repeat(scale, 0).repeat(scale, 1)
    times = (-(-height // tile.shape[0]), -(-width // tile.shape[1]))
    return np.tile(tile, times)[:height, :width]


def _moved(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask a pixel lower and further right."""
    import numpy as np

    return np.pad(mask, ((1, 0), (1, 0)))[:-1, :-1]
