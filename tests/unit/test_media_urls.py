"""URLs of media: short-lived, and a preview leads to nothing else."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from pydantic import SecretStr

from cluster.connections.media.signing import S3Signer, url_signer
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
from serve_apps.media.urls import MediaUrls

NOW_S = 1_800_000_123.0
RECORD = MediaRecord(
    media_id=new_id(), owner_id=new_id(), kind="image", state="ready", review="approved", derivatives=(LARGE, THUMB),
    width=800, height=600,
)


@dataclasses.dataclass
class Clock:
    now_s: float = NOW_S

    def __call__(self) -> float:
        return self.now_s


def settings(**media: object) -> Settings:
    group = Media(local_url="http://127.0.0.1:1", url_key=SecretStr("ab" * 32), **media)  # type: ignore[arg-type]
    return load_settings("test").model_copy(update={"media": group})


S3 = {"s3_endpoint": "https://account.r2.example.com", "s3_access_key_id": "AK", "s3_secret_access_key": SecretStr("SK")}


@pytest.mark.parametrize("media", [{}, S3])
def test_a_url_lives_between_five_and_ten_minutes_and_is_the_same_within_a_window(media: dict[str, object]) -> None:
    signer = url_signer(settings(**media))
    for second in range(0, 1_200, 7):
        assert 300 <= signer.expires_s(NOW_S + second) - (NOW_S + second) <= 600
    start = NOW_S // 300 * 300
    assert signer.get("media/x/large.webp", start) == signer.get("media/x/large.webp", start + 299)
    assert signer.get("media/x/large.webp", start) != signer.get("media/x/large.webp", start + 300)
    assert signer.get("media/x/large.webp", start) != signer.get("media/y/large.webp", start)


def test_a_url_of_s3_ends_when_it_says() -> None:
    signer = S3Signer(settings(**S3).media)
    query = parse_qs(urlsplit(signer.get("media/x", NOW_S)).query)
    begins = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    ends = begins + timedelta(seconds=int(query["X-Amz-Expires"][0]))
    assert ends.timestamp() == signer.expires_s(NOW_S)
    assert begins.timestamp() <= NOW_S
    assert query["response-cache-control"] == ["private, no-store"]


def test_a_preview_names_no_key_from_which_the_media_could_be_found() -> None:
    urls = MediaUrls(settings(), clock=Clock())
    view = urls.preview(RECORD)
    assert view.access == "preview"
    assert (view.url, view.poster_url, view.thumb_url) == (None, None, None)
    key = urlsplit(view.preview_url).path.lstrip("/")
    assert key == preview_key(RECORD.media_id)
    assert RECORD.media_id not in view.preview_url
    full = urls.full(RECORD)
    assert full.url is not None
    assert urlsplit(full.url).path == f"/{derivative_key(RECORD.media_id, LARGE)}"
    for secret in (quarantine_key(RECORD.media_id), preserved_key(RECORD.media_id)):
        assert secret not in full.model_dump_json()


def test_with_watermarks_the_picture_itself_is_under_no_url() -> None:
    urls = MediaUrls(settings(watermark=True), clock=Clock())
    view = urls.full(RECORD)
    assert view.url is not None
    video = urls.full(msgspec.structs.replace(RECORD, kind="video", derivatives=(POSTER, THUMB)))
    assert video.url is not None
    assert "/playlist.m3u8?" in video.url
    for url, picture in ((view.url, "large"), (view.thumb_url, "thumb"), (video.poster_url, "poster"), (video.thumb_url, "thumb")):
        assert url is not None
        assert url.startswith(f"/api/v1/media/{RECORD.media_id}/marked.webp?")
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert query["name"] == picture
        assert urls.opens(RECORD.media_id, int(query["expires"]), query["signature"])
    for name in (LARGE, POSTER, THUMB):
        assert derivative_key(RECORD.media_id, name) not in view.model_dump_json() + video.model_dump_json()


def test_a_playlist_opens_for_its_own_video_until_it_ends() -> None:
    clock = Clock()
    urls = MediaUrls(settings(), clock=clock)
    video = MediaRecord(media_id=RECORD.media_id, owner_id=RECORD.owner_id, kind="video", state="ready")
    url = urls.full(video).url
    assert url is not None
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    expires_s, seal = int(query["expires"]), query["signature"]
    assert urls.opens(video.media_id, expires_s, seal)
    assert not urls.opens(new_id(), expires_s, seal)
    assert not urls.opens(video.media_id, expires_s + 1, seal)
    clock.now_s = expires_s
    assert not urls.opens(video.media_id, expires_s, seal)


@pytest.mark.parametrize("media", [{}, S3])
@pytest.mark.parametrize("minutes", [0, 3, 10])
def test_a_video_can_be_played_through_once_and_no_longer(media: dict[str, object], minutes: int) -> None:
    """Wherever in a window its playlist is read: until its length and five minutes have passed."""
    clock = Clock()
    urls = MediaUrls(settings(**media), clock=clock)
    video = msgspec.structs.replace(RECORD, kind="video", duration_ms=minutes * 60_000 + 1)
    for second in range(0, 600, 97):
        clock.now_s = NOW_S + second
        query = parse_qs(urlsplit(urls.segments(video, "360p.mp4")).query)
        if media:
            begins = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            ends_s = begins.timestamp() + int(query["X-Amz-Expires"][0])
        else:
            ends_s = float(query["expires"][0])
        assert ends_s - clock.now_s == minutes * 60 + 1 + 300
