"""One suite for every store: the embedded one, an S3 server that checks signatures, and moto's S3."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
from media_world import nanio, send, sha256
from pydantic import SecretStr

from cluster.connections.media import s3
from cluster.connections.media.local import media_dir
from cluster.connections.media.s3 import S3Store
from cluster.connections.media.signing import S3Signer, UrlSigner, url_signer
from cluster.connections.media.store import MediaStore, ObjectMissing, UploadIncomplete, media_store, part_sizes
from cluster.embedded.media_store import EmbeddedMediaStore, sweep
from configs.contracts.ids import new_id
from configs.contracts.media import derivative_key, derivatives_folder, preview_key, quarantine_key, withheld_key
from configs.settings import Media, Settings, load_settings

CONTENT = bytes(range(256)) * 64
PART = 5 << 20


class Place(NamedTuple):
    """A running store; ``strict``: it checks what was signed, as a real bucket does."""

    name: str
    store: MediaStore
    signer: UrlSigner
    strict: bool
    settings: Settings

    def url(self, key: str) -> str:
        return self.signer.get(key, time.time())


def _s3(endpoint: str) -> Settings:
    media = Media(
        s3_endpoint=endpoint, s3_bucket="sugar-media", s3_region="us-east-1", s3_access_key_id="AK",
        s3_secret_access_key=SecretStr("SK" * 8), url_key=SecretStr("ab" * 32),
    )
    settings = load_settings("test").model_copy(update={"media": media})
    S3Store(media)._client.create_bucket(Bucket=media.s3_bucket)
    return settings


@pytest.fixture(scope="module", params=["embedded", "nanio", "moto"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "embedded":
        settings = load_settings("test", data_dir=directory)
        server = EmbeddedMediaStore(media_dir(directory), directory / "run", "ab" * 32)
        media = settings.media.model_copy(update={"local_url": server.start(), "url_key": SecretStr("ab" * 32)})
        settings = settings.model_copy(update={"media": media})
        yield Place("embedded", media_store(settings), url_signer(settings), True, settings)
        server.stop()
    elif request.param == "nanio":
        with nanio(directory) as address:
            settings = _s3(address)
            yield Place("nanio", media_store(settings), url_signer(settings), True, settings)
    else:
        from moto.server import ThreadedMotoServer

        moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        moto.start()
        host, port = moto.get_host_and_port()
        settings = _s3(f"http://{host}:{port}")
        yield Place("moto", media_store(settings), url_signer(settings), False, settings)
        moto.stop()


def test_what_was_signed_can_be_uploaded_and_read(place: Place, tmp_path: Path) -> None:
    key = quarantine_key(new_id())
    signed = place.store.upload(key, content_type="image/jpeg", size=len(CONTENT), sha256=sha256(CONTENT), seconds=60)
    assert place.store.size(key) is None
    assert send(signed, CONTENT) == 200
    assert place.store.size(key) == len(CONTENT)
    place.store.fetch(key, tmp_path / "found", len(CONTENT))
    assert (tmp_path / "found").read_bytes() == CONTENT
    with pytest.raises(UploadIncomplete):
        place.store.fetch(key, tmp_path / "found", len(CONTENT) - 1)
    answer = httpx.get(place.url(key))
    assert (answer.status_code, answer.content) == (200, CONTENT)
    if place.name != "nanio":  # which knows no response-cache-control
        assert answer.headers["cache-control"] == "private, no-store"


def test_another_length_type_or_key_than_was_signed_is_refused(place: Place) -> None:
    if not place.strict:
        pytest.skip("moto checks no presigned query")
    key, other = quarantine_key(new_id()), quarantine_key(new_id())
    signed = place.store.upload(key, content_type="image/jpeg", size=len(CONTENT), sha256=sha256(CONTENT), seconds=60)
    assert send(signed, CONTENT + b"x", **{"Content-Length": str(len(CONTENT) + 1)}) in (400, 403)
    assert send(signed, CONTENT[:-1], **{"Content-Length": str(len(CONTENT) - 1)}) in (400, 403)
    assert send(signed, CONTENT, **{"Content-Type": "text/html"}) in (400, 403)
    elsewhere = signed.url.replace(key, other)
    assert httpx.put(elsewhere, content=CONTENT, headers=dict(signed.headers)).status_code == 403
    unsigned = signed.url.partition("?")[0]
    assert httpx.put(unsigned, content=CONTENT, headers=dict(signed.headers)).status_code == 403
    assert (place.store.size(key), place.store.size(other)) == (None, None)


def test_another_content_of_the_same_length_is_refused_by_the_embedded_store(place: Place) -> None:
    """A bucket checks the signed checksum, too; these two S3 servers do not, so processing checks it again."""
    if place.name != "embedded":
        pytest.skip("this server checks no checksum")
    key = quarantine_key(new_id())
    signed = place.store.upload(key, content_type="image/jpeg", size=len(CONTENT), sha256=sha256(CONTENT), seconds=60)
    assert send(signed, CONTENT[::-1]) == 400
    assert place.store.size(key) is None


def test_a_url_ends(place: Place) -> None:
    if not place.strict:
        pytest.skip("moto checks no presigned query")
    key = quarantine_key(new_id())
    signed = place.store.upload(key, content_type="image/jpeg", size=len(CONTENT), sha256=sha256(CONTENT), seconds=1)
    time.sleep(2.1)
    assert send(signed, CONTENT) == 403
    place.store.put(key, _file(CONTENT), "image/jpeg")
    assert httpx.get(place.signer.get(key, time.time() - 1_200)).status_code == 403


def test_a_url_for_reading_reads_its_own_object_and_changes_nothing(place: Place) -> None:
    if not place.strict:
        pytest.skip("moto checks no presigned query")
    media = new_id()
    key, other = derivative_key(media, "thumb.webp"), derivative_key(media, "large.webp")
    for name in (key, other):
        place.store.put(name, _file(CONTENT), "image/webp")
    url = place.url(key)
    assert httpx.get(url).status_code == 200
    assert httpx.get(url.replace("thumb.webp", "large.webp")).status_code == 403
    assert httpx.get(url.partition("?")[0]).status_code == 403
    assert httpx.put(url, content=b"x").status_code in (403, 405)
    assert httpx.delete(url).status_code in (403, 405)
    folder = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}/"
    for guess in ("", "?list-type=2", "media/", "sugar-media?list-type=2"):
        assert httpx.get(folder + guess).status_code in (403, 404), "nothing is listed"


def test_ranges_are_read_as_segments_are(place: Place) -> None:
    key = derivative_key(new_id(), "720p.mp4")
    place.store.put(key, _file(CONTENT), "video/mp4")
    answer = httpx.get(place.url(key), headers={"Range": "bytes=256-511"})
    assert (answer.status_code, answer.content) == (206, CONTENT[256:512])


def test_an_upload_in_parts_is_one_object_once_all_parts_are_there(place: Place) -> None:
    key = quarantine_key(new_id())
    whole = CONTENT * 640  # 10 MiB
    sizes = part_sizes(len(whole) + 5, PART)
    content = whole + b"final"
    upload = place.store.begin_parts(key, "video/mp4")
    requests = [
        place.store.upload_part(key, upload, number, size=size, seconds=60) for number, size in enumerate(sizes, 1)
    ]
    assert send(requests[0], content[:PART]) == 200
    with pytest.raises(UploadIncomplete):
        place.store.finish_parts(key, upload, sizes)
    assert place.store.size(key) is None
    if place.strict:
        assert send(requests[1], content[:100], **{"Content-Length": "100"}) in (400, 403)
    start = 0
    for request, size in zip(requests, sizes, strict=True):
        assert send(request, content[start : start + size]) == 200
        start += size
    place.store.finish_parts(key, upload, sizes)
    place.store.finish_parts(key, upload, sizes)
    assert place.store.size(key) == len(content)
    assert httpx.get(place.url(key)).content == content


def test_an_upload_that_was_given_up_leaves_nothing(place: Place) -> None:
    key = quarantine_key(new_id())
    upload = place.store.begin_parts(key, "video/mp4")
    request = place.store.upload_part(key, upload, 1, size=5, seconds=60)
    assert send(request, b"12345") == 200
    place.store.abort_parts(key, upload)
    place.store.abort_parts(key, upload)
    with pytest.raises(UploadIncomplete):
        place.store.finish_parts(key, upload, [5])
    assert place.store.size(key) is None


def test_objects_are_copied_and_deleted_once_and_again(place: Place, tmp_path: Path) -> None:
    media = new_id()
    key, copy = derivative_key(media, "large.webp"), preview_key(media)
    place.store.put(key, _file(CONTENT), "image/webp")
    place.store.copy(key, copy)
    place.store.delete([key])
    place.store.delete([key])
    assert (place.store.size(key), place.store.size(copy)) == (None, len(CONTENT))
    with pytest.raises(ObjectMissing):
        place.store.copy(key, copy)
    with pytest.raises(ObjectMissing):
        place.store.fetch(key, tmp_path / "none", 1 << 20)
    assert httpx.get(place.url(key)).status_code == 404
    place.store.delete([copy])


def test_what_is_below_a_folder_is_deleted_and_nothing_else(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "KEYS_A_CALL", 2)
    media = new_id()
    folder = derivatives_folder(media)
    names = ["large.webp", "thumb.webp", "360p.mp4", "720p.mp4", "poster.webp"]
    others = [f"{folder}0/large.webp", derivative_key(new_id(), "large.webp"), withheld_key(media, "large.webp"), preview_key(media)]
    for key in [*(derivative_key(media, name) for name in names), *others]:
        place.store.put(key, _file(CONTENT), "image/webp")
    for _ in range(2):
        place.store.delete_below(folder)
        assert [place.store.size(derivative_key(media, name)) for name in names] == [None] * len(names)
        assert [place.store.size(key) for key in others] == [len(CONTENT)] * len(others)
    place.store.delete(others)


def test_our_signature_is_botocores(place: Place) -> None:
    """Ours is for speed; a client of Amazon's own makes the same URL at the same second."""
    if not isinstance(place.store, S3Store):
        pytest.skip("not S3")
    from botocore.awsrequest import AWSRequest

    media = place.settings.media
    url = S3Signer(media).get("media/a b/large.webp", time.time())
    request = AWSRequest("GET", url.partition("&X-Amz-Signature=")[0])
    signer = _auth(media)
    request.context["timestamp"] = dict(part.split("=", 1) for part in url.split("?")[1].split("&"))["X-Amz-Date"]
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert url.endswith("&X-Amz-Signature=" + signer.signature(text, request))


def _auth(media: Media):  # type: ignore[no-untyped-def]
    from botocore.auth import S3SigV4QueryAuth
    from botocore.credentials import Credentials

    secret = media.s3_secret_access_key.get_secret_value()
    return S3SigV4QueryAuth(Credentials(media.s3_access_key_id, secret), "s3", media.s3_region, media.url_ttl_s)


def test_the_embedded_store_lets_nobody_out_of_its_directory(place: Place) -> None:
    if place.name != "embedded":
        pytest.skip("of the embedded store only")
    secret = media_dir(place.settings.data_dir).parent / "secret"
    secret.write_text("secret")
    for key in ("../secret", "media/../../secret", "media/x/../../../secret", "/etc/passwd", "quarantine/.hidden"):
        with pytest.raises(ObjectMissing):
            place.store.copy(key, preview_key("x"))
        assert place.store.size(key) is None
        assert b"secret" not in httpx.get(place.url(key)).content


def test_uploads_that_nobody_completed_are_swept(place: Place) -> None:
    if place.name != "embedded":
        pytest.skip("a bucket has a lifecycle rule")
    root = media_dir(place.settings.data_dir)
    key, kept = quarantine_key(new_id()), preview_key(new_id())
    for name in (key, kept):
        place.store.put(name, _file(CONTENT), "")
    place.store.begin_parts(key, "video/mp4")
    assert sweep(root, time.time()) == 0
    assert sweep(root, time.time() + 3 * 86_400) >= 2
    assert (place.store.size(key), place.store.size(kept)) == (None, len(CONTENT))


def _file(content: bytes) -> Path:
    import tempfile

    path = Path(tempfile.mkstemp()[1])
    path.write_bytes(content)
    return path
