"""What processing costs: ``python -m writers.media.measure [pictures]``, in CPU seconds, so that other load matters little.

Everything from the quarantine to stored derivatives, in a store of its own: reading and hashing the upload, the decoding
child with its fork, perceptual hashes, comparison with a list of 100,000 hashes, and the embedded store's fsyncs.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import SecretStr

from cluster.connections.media.local import LocalStore
from configs.contracts.events import MediaProcessed
from configs.contracts.ids import new_id
from configs.contracts.media import MediaKind, MediaRecord, quarantine_key
from configs.settings import load_settings
from writers.media.block_lists import BlockLists
from writers.media.processing import Processing

SIZES: Final = ((1_080, 1_350), (4_000, 3_000))
"""Pixels of a picture that an app made smaller, and of one as phones take it."""
VIDEO_S: Final = 10
LISTED: Final = 100_000


def _cpu_s() -> float:
    """CPU of this process and of its children that have ended, and theirs."""
    return sum(
        used.ru_utime + used.ru_stime for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _picture(path: Path, width: int, height: int, seed: int) -> None:
    """A JPEG with structure at several scales, as photos have it."""
    import pyvips

    generator = np.random.default_rng(seed)
    image = pyvips.Image.new_from_array(np.zeros((height, width, 3), np.uint8))
    for side in (8, 64, 512):
        noise = pyvips.Image.new_from_array(generator.integers(0, 80, (side, side, 3), dtype=np.uint8))
        image = image + noise.resize(width / side, vscale=height / side, kernel="cubic")
    image.cast("uchar").copy(interpretation="srgb").jpegsave(str(path), Q=88)


def _video(path: Path) -> None:
    import av

    base = np.random.default_rng(0).integers(0, 256, (72, 128, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(30), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 1_280, 720, "yuv420p"
        for number in range(30 * VIDEO_S):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(base, 3 * number, axis=1), format="rgb24")))
        container.mux(stream.encode())


def _record(store: LocalStore, path: Path, kind: MediaKind, content_type: str) -> MediaRecord:
    content = path.read_bytes()
    record = MediaRecord(
        media_id=new_id(), owner_id=new_id(), kind=kind, state="uploaded", content_type=content_type, size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    store.put(quarantine_key(record.media_id), path, content_type)
    return record


def measured(pictures: int) -> list[tuple[str, float]]:
    """(what, CPU seconds apiece)."""
    generator = np.random.default_rng(1)
    lists = BlockLists(
        generator.integers(0, 2**63, (LISTED, 4), dtype=np.uint64), np.zeros(LISTED, np.int64), ("measured",)
    )
    found: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as directory:
        settings = load_settings("test", data_dir=Path(directory))
        media = settings.media.model_copy(update={"url_key": SecretStr("00" * 32)})
        settings = settings.model_copy(update={"media": media})
        store = LocalStore(settings)
        path = Path(directory) / "made"
        batches: list[tuple[str, list[MediaRecord]]] = []
        for width, height in SIZES:
            records = []
            for seed in range(pictures):
                _picture(path, width, height, seed)
                records.append(_record(store, path, "image", "image/jpeg"))
            batches.append((f"picture of {width} × {height}", records))
        _video(path)
        batches.append((f"second of video, 720p at 30 a second, {VIDEO_S} s", [_record(store, path, "video", "video/mp4")]))
        for name, records in batches:
            processing = Processing(settings, store=store)
            before = _cpu_s()
            outcomes = [processing.process(record, lists) for record in records]
            processing.close()  # its children's CPU counts once they have ended
            assert all(isinstance(outcome, MediaProcessed) for outcome in outcomes)
            each = VIDEO_S if records[0].kind == "video" else len(records)
            found.append((name, (_cpu_s() - before) / each))
    return found


def main(arguments: list[str]) -> None:
    pictures = int(arguments[0]) if arguments else 20
    for name, cpu_s in measured(pictures):
        print(f"{name}: {cpu_s:.3f} CPU-s, {1 / cpu_s:.1f} a second and core")  # noqa: T201  the answer


if __name__ == "__main__":
    main(sys.argv[1:])
