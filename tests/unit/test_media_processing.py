"""What becomes of uploaded files: real files of many kinds, decoded in the real child process."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media_world import picture, recording, sha256, video
from PIL import Image
from pydantic import SecretStr

from cluster.connections.media.local import LocalStore, media_dir, object_path
from configs.contracts.events import MediaProcessed, MediaRejected
from configs.contracts.ids import new_id
from configs.contracts.media import (
    LARGE,
    POSTER,
    THUMB,
    MediaRecord,
    derivative_key,
    preserved_key,
    preview_key,
    quarantine_key,
)
from configs.settings import Media, Settings, load_settings
from serve_apps.media import playlists
from writers.media.block_lists import CSAM, EMPTY, BlockLists
from writers.media.processing import Outcome, Processing


class Bench:
    """Processing over a store of its own."""

    def __init__(self, directory: Path, **media: Any) -> None:
        group = Media(url_key=SecretStr("ab" * 32), **media)
        self.settings: Settings = load_settings("test", data_dir=directory).model_copy(update={"media": group})
        self.store = LocalStore(self.settings)
        self.processing = Processing(self.settings, store=self.store)
        self._directory = directory

    def record(self, content: bytes, kind: Any = "image", content_type: str = "image/jpeg") -> MediaRecord:
        """A media whose upload is in the quarantine."""
        made = MediaRecord(
            media_id=new_id(), owner_id=new_id(), kind=kind, state="uploaded", content_type=content_type, size=len(content),
            sha256=sha256(content),
        )
        path = self._directory / "content"
        path.write_bytes(content)
        self.store.put(quarantine_key(made.media_id), path, "")
        return made

    def process(self, content: bytes, kind: Any = "image", content_type: str = "image/jpeg", lists: BlockLists = EMPTY) -> Outcome:
        return self.processing.process(self.record(content, kind, content_type), lists)

    def object(self, key: str) -> bytes:
        return object_path(media_dir(self.settings.data_dir), key).read_bytes()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("media"), video_seconds=4)
    yield made
    made.processing.close()


def accepted(outcome: Outcome) -> MediaProcessed:
    assert isinstance(outcome, MediaProcessed), outcome
    return outcome


def pixels(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def located(seed: int) -> bytes:
    """A photo as a phone writes it: with a place, a device and a thumbnail's worth of words."""
    exif = Image.Exif()
    exif[0x010F] = "Secret Maker"
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2] = "N", (52.0, 31.0, 12.0)
    return picture(seed, exif=exif.tobytes())


def test_a_photo_loses_what_the_camera_wrote_into_it(bench: Bench) -> None:
    content = located(1)
    assert b"Secret Maker" in content
    outcome = accepted(bench.process(content))
    assert (outcome.content_type, outcome.width, outcome.height, outcome.review) == ("image/jpeg", 320, 240, "pending")
    assert set(outcome.derivatives) == {LARGE, THUMB}
    keys = [derivative_key(outcome.media_id, name) for name in outcome.derivatives] + [preview_key(outcome.media_id)]
    for key in keys:
        shown = bench.object(key)
        assert b"Secret Maker" not in shown
        assert b"Exif" not in shown
        assert not Image.open(io.BytesIO(shown)).getexif()
    assert abs(pixels(bench.object(keys[0])) - pixels(content)).mean() < 6, "the picture itself stays"


def test_a_turned_photo_is_upright(bench: Bench) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    outcome = accepted(bench.process(picture(2, exif=exif.tobytes())))
    assert (outcome.width, outcome.height) == (240, 320)


def test_the_preview_holds_nothing_finer_than_32_pixels(bench: Bench) -> None:
    """A picture of words and one of the words' mean brightness look alike in it."""
    generator = np.random.default_rng(3)
    fine = generator.integers(0, 2, (512, 512)).astype(np.uint8) * 255
    coarse = fine.reshape(32, 16, 32, 16).mean(axis=(1, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    previews = []
    for array in (fine, coarse):
        buffer = io.BytesIO()
        Image.fromarray(array).convert("RGB").save(buffer, "PNG")
        outcome = accepted(bench.process(buffer.getvalue(), content_type="image/png"))
        previews.append(pixels(bench.object(preview_key(outcome.media_id))))
    assert abs(previews[0] - previews[1]).mean() < 4


def zip_polyglot() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("evil.html", "<script>alert(1)</script>" * 10)
    return picture(4) + buffer.getvalue()


def test_what_is_hidden_behind_a_picture_does_not_come_through(bench: Bench) -> None:
    outcome = accepted(bench.process(zip_polyglot()))
    for name in outcome.derivatives:
        content = bench.object(derivative_key(outcome.media_id, name))
        assert b"PK" + bytes([3, 4]) not in content
        assert b"<script>" not in content


def png_bomb(side: int) -> bytes:
    """A valid PNG of one bit a pixel: kilobytes that decode to gigabytes."""
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    rows = zlib.compressobj(9)
    line = bytes(1 + side // 8)
    data = b"".join(rows.compress(line) for _ in range(side)) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def animated() -> bytes:
    frames = [Image.new("P", (2_000, 2_000), number) for number in range(20)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


BAD: list[tuple[str, Callable[[], bytes], str, str, str]] = [
    ("another type than declared", lambda: picture(5, form="PNG"), "image", "image/jpeg", "type_mismatch"),
    ("a video declared an image", lambda: video(0.5), "image", "image/jpeg", "type_mismatch"),
    ("svg with a script", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "image", "image/png", "type_mismatch"),
    ("html", lambda: b"<html><script>alert(1)</script>", "image", "image/jpeg", "type_mismatch"),
    ("nothing", lambda: b"", "image", "image/jpeg", "type_mismatch"),
    ("a script that begins like a GIF", lambda: b"GIF89a/*<script>*/=alert(1);" + b"x" * 500, "image", "image/gif", "unreadable"),
    ("a photo that was cut off", lambda: picture(6, width=800, height=600)[:9_000], "image", "image/jpeg", "unreadable"),
    ("a pixel bomb", lambda: png_bomb(20_000), "image", "image/png", "too_large"),
    ("a bomb of frames", animated, "image", "image/gif", "too_large"),
    ("noise behind a header", lambda: b"\xff\xd8\xff\xe0" + bytes(range(256)) * 20, "image", "image/jpeg", "unreadable"),
    ("a video that was cut off", lambda: video(2)[:-20_000], "video", "video/mp4", "unreadable"),
    ("a video that is too long", lambda: video(5), "video", "video/mp4", "too_long"),
    ("an image declared a video", lambda: picture(7), "video", "video/mp4", "type_mismatch"),
    ("a playlist that would read other files", lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "video", "video/mp4", "type_mismatch"),
    ("noise in a video's clothes", lambda: b"\x00\x00\x00\x20ftypisom" + bytes(range(256)) * 20, "video", "video/mp4", "unreadable"),
]


@pytest.mark.parametrize(("make", "kind", "content_type", "reason"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_what_is_not_what_it_says_is_refused_and_leaves_nothing(
    bench: Bench, make: Callable[[], bytes], kind: str, content_type: str, reason: str
) -> None:
    outcome = bench.process(make(), kind, content_type)
    assert isinstance(outcome, MediaRejected)
    assert (outcome.reason, outcome.preserved) == (reason, False)
    assert bench.store.size(derivative_key(outcome.media_id, LARGE)) is None
    assert bench.store.size(preview_key(outcome.media_id)) is None


def test_what_was_stored_must_be_what_was_announced(bench: Bench) -> None:
    content = picture(8)
    record = bench.record(content)
    for changed, reason in (
        ({"sha256": "00" * 32}, "checksum_mismatch"), ({"size": len(content) - 1}, "size_mismatch"),
        ({"size": len(content) + 1}, "size_mismatch"), ({"media_id": new_id()}, "unreadable"),
    ):
        other = MediaRecord(**{name: getattr(record, name) for name in record.__struct_fields__} | changed)
        outcome = bench.processing.process(other, EMPTY)
        assert isinstance(outcome, MediaRejected)
        assert outcome.reason == reason


def test_a_file_that_takes_too_much_ends_its_own_decoder_only(tmp_path: Path) -> None:
    bench = Bench(tmp_path, process_memory_bytes=256 << 20)
    try:
        outcome = bench.process(picture(9, width=6_000, height=6_000), content_type="image/jpeg")
        assert isinstance(outcome, MediaRejected)
        assert outcome.reason == "unreadable"
    finally:
        bench.processing.close()


def test_a_decoder_that_was_killed_is_started_again(bench: Bench) -> None:
    accepted(bench.process(picture(10)))
    process = bench.processing._decoder._process
    assert process is not None
    process.kill()
    process.wait()
    accepted(bench.process(picture(10)))


def listed(name: str, hashes: tuple[str, ...]) -> BlockLists:
    values = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(-1, 4)
    return BlockLists(values, np.zeros(len(values), np.int64), (name,))


@pytest.mark.parametrize("change", ["same", "mirrored", "turned", "smaller", "cropped", "one edge less", "bordered", "recoloured"])
def test_a_changed_copy_of_a_listed_picture_is_found(bench: Bench, change: str) -> None:
    original = Image.open(io.BytesIO(picture(11, width=640, height=480)))
    own = accepted(bench.process(picture(11, width=640, height=480))).hashes
    width, height = original.size
    copies = {
        "same": original, "mirrored": original.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "turned": original.rotate(90, expand=True),
        "smaller": original.resize((320, 240)), "cropped": original.crop((32, 24, width - 32, height - 24)),
        "one edge less": original.crop((64, 0, width, height)), "recoloured": original.point(lambda value: min(255, value + 12)),
        "bordered": Image.new("RGB", (710, 533), "black"),
    }
    copies["bordered"].paste(original, (35, 26))
    buffer = io.BytesIO()
    copies[change].save(buffer, "JPEG", quality=70)
    outcome = bench.process(buffer.getvalue(), lists=listed("removed", own))
    assert isinstance(outcome, MediaRejected), f"{change} was not found"
    assert (outcome.reason, outcome.matched, outcome.preserved) == ("blocked", "removed", False)
    assert bench.store.size(derivative_key(outcome.media_id, LARGE)) is None


def test_other_pictures_are_not_on_the_list(bench: Bench) -> None:
    own = accepted(bench.process(picture(12))).hashes
    for seed in range(20, 28):
        accepted(bench.process(picture(seed), lists=listed("removed", own)))


def test_a_match_of_the_child_abuse_list_is_preserved(bench: Bench) -> None:
    content = picture(13)
    own = accepted(bench.process(content)).hashes
    outcome = bench.process(content, lists=listed(CSAM, own))
    assert isinstance(outcome, MediaRejected)
    assert (outcome.matched, outcome.preserved) == (CSAM, True)
    assert bench.object(preserved_key(outcome.media_id)) == content


def test_the_child_abuse_list_comes_before_a_nearer_match_of_another() -> None:
    near, exact = bytearray(32), bytes(32)
    near[0] = 0b11
    values = np.frombuffer(bytes(near) + exact, np.uint64).reshape(-1, 4)
    found = BlockLists(values, np.array([0, 1]), (CSAM, "removed")).match([exact.hex()])
    assert found is not None
    assert (found.name, found.distance) == (CSAM, 2)
    far = bytearray(32)
    far[4:9] = b"\xff" * 5
    assert BlockLists(values, np.array([0, 1]), (CSAM, "removed")).match([bytes(far).hex()]) is None


def test_a_video_becomes_a_ladder_that_plays_by_byte_ranges(bench: Bench) -> None:
    import av

    outcome = accepted(bench.process(video(3, width=640, height=480), "video", "video/mp4"))
    assert abs(outcome.duration_ms - 3_000) < 100
    assert set(outcome.derivatives) == {POSTER, THUMB, "360p.mp4"}
    (rendition,) = outcome.renditions
    content = bench.object(derivative_key(outcome.media_id, rendition.name))
    assert b"52.5200" not in content, "the place the camera wrote is gone"
    text = playlists.media(rendition, "https://store/x?signed")
    ranges = [line.removeprefix("#EXT-X-BYTERANGE:").split("@") for line in text.splitlines() if line.startswith("#EXT-X-BYTERANGE:")]
    assert sum(int(size) for size, _ in ranges) + rendition.init_bytes == len(content)
    size, start = map(int, ranges[-1])
    piece = content[: rendition.init_bytes] + content[start : start + size]
    with av.open(io.BytesIO(piece)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 0, "a segment decodes with the beginning alone"
    assert text.count("https://store/x?signed") == len(ranges) + 1, "every segment is behind the signed URL"
    record = MediaRecord(media_id=outcome.media_id, owner_id=outcome.owner_id, kind="video", renditions=outcome.renditions)
    assert "/one?rendition=360p.mp4" in playlists.master(record, lambda name: f"/one?rendition={name}")
    assert len(outcome.hashes) > 1
    again = bench.process(video(3, width=640, height=480), "video", "video/mp4", lists=listed("removed", outcome.hashes[:1]))
    assert isinstance(again, MediaRejected)


def test_a_recording_whose_pictures_come_unevenly_is_accepted(bench: Bench) -> None:
    outcome = accepted(bench.process(recording([1.0, 2.0], rate=30, uneven_ms=16), "video", "video/webm"))
    assert abs(outcome.duration_ms - 3_000) < 100
