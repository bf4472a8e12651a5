"""Routes of uploads and media."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import time
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Path, Query, Response

from actors.media.commands import (
    Arranged,
    ArrangePhotos,
    CompleteUpload,
    FindMedia,
    Found,
    IdempotencyConflict,
    MediaUnknown,
    RemoveMedia,
    RequestUpload,
    UploadExpired,
    UploadLimit,
)
from cluster.connections.media.signing import CACHE_CONTROL
from cluster.connections.media.store import MediaStore, ObjectMissing, SignedUpload, UploadIncomplete, part_sizes
from configs.contracts.albums import media_key, put_media, put_photos, read_media
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.ids import derived_id, new_id
from configs.contracts.media import MediaRecord, quarantine_key
from serve_apps.dependencies import Dependencies
from serve_apps.fields import UUID_PATTERN, IdempotencyKey, Success, body_digest
from serve_apps.identity import Deps, Person
from serve_apps.limits import Rate
from serve_apps.media import playlists
from serve_apps.media.access import opens
from serve_apps.media.models import OwnMedia, Photos, PhotosBody, Upload, UploadBody, UploadRequest
from serve_apps.media.urls import PICTURES, PLAYLIST, PictureName
from serve_apps.problems import EVERYWHERE, SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(tags=["media"])

STORE_DEADLINE_S: Final = 25.0
DAY_S: Final = 86_400
MARKED_A_MINUTE: Final = Rate("marked", 120, 60)
MARKED_THUMBS_A_MINUTE: Final = Rate("marked_thumb", 600, 60)
"""A page of the feed shows up to 200; one has a seventeenth of a large picture's pixels."""
MediaIdPath = Annotated[str, Path(alias="mediaId", pattern=UUID_PATTERN, description="a media's id")]
T = TypeVar("T")


async def in_store(work: Callable[[], T]) -> T:
    """What a store's method answers, from a thread of its own. Raises DependencyUnavailable: not in time."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(work), STORE_DEADLINE_S)
    except TimeoutError as error:
        raise DependencyUnavailable("the media store does not answer in time") from error


async def _written(dependencies: Dependencies, answer: Found) -> None:
    """Lets the owner read what was just recorded."""
    if answer.version:
        await dependencies.write_through.apply(
            put_media(answer.record, answer.version), put_photos(answer.record.owner_id, answer.photos, answer.album_version)
        )


@router.post(
    "/media/uploads", operation_id="requestUpload", status_code=201, response_model=Upload,
    responses=errors(*SIGNED_IN, *WITH_BODY, "idempotency_conflict", "media_limit_reached"),
)
async def request_upload(
    body: UploadBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> Upload:
    """Grants the upload of one image or video, straight into the store.

    The same Idempotency-Key names the same media for good, with fresh URLs while it is open.
    """
    settings = dependencies.settings.media
    if body.bytes > (settings.image_bytes if body.kind == "image" else settings.video_bytes):
        raise Refused("body_too_large")
    media_id = new_id() if idempotency_key is None else derived_id(f"{person.user_id}:{idempotency_key}", "media")
    return await to_the_end(_granted(dependencies, person.user_id, media_id, body, known=idempotency_key is not None))


async def _granted(dependencies: Dependencies, owner_id: str, media_id: str, body: UploadBody, *, known: bool) -> Upload:
    store, settings = dependencies.media_store, dependencies.settings.media
    held = await dependencies.media.find(FindMedia(owner_id=owner_id, media_id=media_id)) if known else None
    multipart = None
    if not isinstance(held, Found):
        if known and (gone := await _gone(dependencies, media_id)) is not None:
            return Upload(media_id=media_id, state=gone.state, requests=[], expires_at=datetime.now(UTC))
        a_day = Rate("uploads", dependencies.settings.limits.uploads_per_user_a_day, DAY_S)
        await dependencies.limits.take((a_day, owner_id))
        if body.bytes > settings.multipart_bytes:
            multipart = await in_store(lambda: store.begin_parts(quarantine_key(media_id), body.content_type))
    answer = await dependencies.media.request(RequestUpload(
        owner_id=owner_id, media_id=media_id, kind=body.kind, content_type=body.content_type, size=body.bytes,
        sha256=body.sha256, multipart=multipart,
    ))
    if multipart is not None and not (isinstance(answer, Found) and answer.multipart == multipart):
        begun = multipart
        await in_store(lambda: store.abort_parts(quarantine_key(media_id), begun))
    if isinstance(answer, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    if isinstance(answer, UploadLimit):
        if answer.of == "open_uploads":
            raise Refused("too_many_requests", retry_after_s=answer.retry_after_s)
        raise Refused("media_limit_reached", limit=answer.of)
    await _written(dependencies, answer)
    seconds = _seconds_left(answer.record, settings.upload_ttl_s)
    requests: list[UploadRequest] = []
    if answer.record.state == "pending" and seconds > 0:
        found = answer
        requests = await in_store(lambda: _requests(store, found, settings.multipart_bytes, seconds))
    return Upload(
        media_id=media_id, state=answer.record.state, requests=requests,
        expires_at=datetime.fromtimestamp(time() + max(0, seconds), UTC),
    )


async def _gone(dependencies: Dependencies, media_id: str) -> MediaRecord | None:
    """The record of what was removed so long ago that its owner's album may have forgotten it (``albums.REMOVED``)."""
    (value,) = await dependencies.reads.raw(("GET", media_key(media_id)))
    record = None if value is None else read_media(value)
    return record if record is not None and record.state == "removed" else None


def _seconds_left(record: MediaRecord, ttl_s: int) -> int:
    ends = datetime.fromisoformat(record.created_at) + timedelta(seconds=ttl_s)
    return int((ends - datetime.now(UTC)).total_seconds())


def _requests(store: MediaStore, found: Found, part_bytes: int, seconds: int) -> list[UploadRequest]:
    record, multipart = found.record, found.multipart
    key = quarantine_key(record.media_id)
    if multipart is None:
        whole = store.upload(
            key, content_type=record.content_type, size=record.size, sha256=record.sha256, seconds=seconds
        )
        return [_request(whole, record.size)]
    return [
        _request(store.upload_part(key, multipart, number, size=size, seconds=seconds), size)
        for number, size in enumerate(part_sizes(record.size, part_bytes), 1)
    ]


def _request(signed: SignedUpload, size: int) -> UploadRequest:
    return UploadRequest(method="PUT", url=signed.url, headers=dict(signed.headers), bytes=size)


@router.post(
    "/media/uploads/{mediaId}/complete", operation_id="completeUpload", response_model=OwnMedia,
    responses=errors(*SIGNED_IN, "not_found", "upload_incomplete", "upload_expired"),
)
async def complete_upload(media_id: MediaIdPath, person: Person, dependencies: Deps) -> OwnMedia:
    """Says that everything was uploaded; from now on it is processed. May be repeated.

    The size is checked here. The SHA-256 of a file in one request was checked by the store; one in parts that has another
    SHA-256 is `rejected` as `checksum_mismatch` when it is processed.
    """
    return await to_the_end(_completed(dependencies, person.user_id, media_id))


async def _completed(dependencies: Dependencies, owner_id: str, media_id: str) -> OwnMedia:
    store = dependencies.media_store
    held = await dependencies.media.find(FindMedia(owner_id=owner_id, media_id=media_id))
    if isinstance(held, MediaUnknown):
        raise Refused("not_found")
    if held.record.state == "pending":
        found = held
        try:
            size = await in_store(lambda: _whole(store, found, dependencies.settings.media.multipart_bytes))
        except UploadIncomplete:
            size = None
        if size != held.record.size:
            raise Refused("upload_incomplete", stored=size or 0, announced=held.record.size)
    answer = await dependencies.media.complete(CompleteUpload(owner_id=owner_id, media_id=media_id))
    if isinstance(answer, MediaUnknown):
        raise Refused("not_found")
    if isinstance(answer, UploadExpired):
        raise Refused("upload_expired")
    await _written(dependencies, answer)
    return OwnMedia.of(answer.record, dependencies.media_urls)


def _whole(store: MediaStore, found: Found, part_bytes: int) -> int | None:
    """The size of what was uploaded, made one object; its SHA-256 is looked at when it is read. Raises UploadIncomplete."""
    key = quarantine_key(found.record.media_id)
    if found.multipart is not None:
        store.finish_parts(key, found.multipart, part_sizes(found.record.size, part_bytes))
    return store.size(key)


@router.get("/media/{mediaId}", operation_id="getMedia", response_model=OwnMedia, responses=errors(*SIGNED_IN, "not_found"))
async def get_media(media_id: MediaIdPath, person: Person, dependencies: Deps, response: Response) -> OwnMedia:
    """One's own media in whatever state, or another's that one may see whole, with signed URLs: photos of profiles, and media
    of posts that are open to whoever asks.

    What is locked is not found here: where it is shown, its post has the preview. Nor are attachments of messages, whose URLs
    come with the messages.
    """
    record = (await dependencies.media_records.of((media_id,))).get(media_id)
    if record is None or record.state == "removed":
        raise Refused("not_found")
    if record.owner_id != person.user_id and not await opens(dependencies, person.user_id, record):
        raise Refused("not_found")
    response.headers["Cache-Control"] = CACHE_CONTROL
    return OwnMedia.of(record, dependencies.media_urls)


@router.delete(
    "/media/{mediaId}", operation_id="removeMedia", response_model=Success, responses=errors(*SIGNED_IN, "not_found", "post_sold")
)
async def remove_media(media_id: MediaIdPath, person: Person, dependencies: Deps) -> Success:
    """Takes one's own media away for good, wherever it is shown; what is stored of it is deleted.

    What a post shows that was on sale stays: somebody may have bought it.
    """
    record = (await dependencies.media_records.of((media_id,))).get(media_id)
    if record is not None and record.owner_id == person.user_id and await dependencies.contents.sells(media_id):
        raise Refused("post_sold")
    answer = await to_the_end(_removed(dependencies, person.user_id, media_id))
    if answer is None:
        raise Refused("not_found")
    return Success()


async def _removed(dependencies: Dependencies, owner_id: str, media_id: str) -> Found | None:
    answer = await dependencies.media.remove(RemoveMedia(owner_id=owner_id, media_id=media_id, reason="owner"))
    if isinstance(answer, MediaUnknown):
        return None
    await _written(dependencies, answer)
    return answer


@router.get(
    "/media/{mediaId}/playlist.m3u8", operation_id="getPlaylist", response_class=Response, response_model=str,
    responses=errors(*EVERYWHERE, "not_found") | {200: {"content": {playlists.TYPE: {}}, "description": "an HLS playlist"}},
)
async def get_playlist(
    media_id: MediaIdPath, dependencies: Deps,
    expires: Annotated[int, Query(ge=0, description="from the signed URL")],
    signature: Annotated[str, Query(pattern="^[0-9a-f]{64}$", description="from the signed URL")],
    rendition: Annotated[str | None, Query(max_length=32, description="one step of the ladder; without it the master playlist")] = None,
) -> Response:
    """The playlist of a video, under the signed URL of its media; needs no token, since players send none."""
    if not dependencies.media_urls.opens(media_id, expires, signature):
        raise Refused("not_found")
    record = (await dependencies.media_records.of((media_id,))).get(media_id)
    if record is None or record.state != "ready" or record.kind != "video" or record.review == "rejected":
        raise Refused("not_found")
    if rendition is None:
        path = PLAYLIST.format(media_id=media_id)
        text = playlists.master(record, lambda name: f"{path}?rendition={name}&expires={expires}&signature={signature}")
    else:
        chosen = next((known for known in record.renditions if known.name == rendition), None)
        if chosen is None:
            raise Refused("not_found")
        text = playlists.media(chosen, dependencies.media_urls.segments(record, chosen.name))
    return Response(text, media_type=playlists.TYPE, headers={"Cache-Control": CACHE_CONTROL})


@router.get(
    "/media/{mediaId}/marked.webp", operation_id="getMarkedPicture", response_class=Response, response_model=bytes,
    responses=errors(*SIGNED_IN, "not_found") | {200: {"content": {"image/webp": {}}, "description": "the picture"}},
)
async def get_marked(
    media_id: MediaIdPath, person: Person, dependencies: Deps,
    expires: Annotated[int, Query(ge=0, description="from the signed URL")],
    signature: Annotated[str, Query(pattern="^[0-9a-f]{64}$", description="from the signed URL")],
    name: Annotated[PictureName, Query(description="which picture of the media; of a video its poster or thumb")] = "large",
) -> Response:
    """A picture with the id of whoever asks drawn into it, under the signed URL of its media."""
    await dependencies.limits.take((MARKED_THUMBS_A_MINUTE if name == "thumb" else MARKED_A_MINUTE, person.user_id))
    if not dependencies.media_urls.opens(media_id, expires, signature):
        raise Refused("not_found")
    record = (await dependencies.media_records.of((media_id,))).get(media_id)
    if record is None or record.state != "ready" or record.review == "rejected" or PICTURES[name] not in record.derivatives:
        raise Refused("not_found")
    try:
        content = await dependencies.marking.picture(media_id, PICTURES[name], person.user_id)
    except ObjectMissing as error:
        raise Refused("not_found") from error
    return Response(content, media_type="image/webp", headers={"Cache-Control": CACHE_CONTROL})


@router.get("/users/me/photos", operation_id="listPhotos", response_model=Photos, responses=errors(*SIGNED_IN))
async def list_photos(person: Person, dependencies: Deps) -> Photos:
    """One's profile's photos, those that wait for review among them."""
    answer = await dependencies.media.arrange(ArrangePhotos(owner_id=person.user_id, media_ids=(), look=True))
    assert isinstance(answer, Arranged)
    return _photos(dependencies, answer)


@router.put(
    "/users/me/photos", operation_id="arrangePhotos", response_model=Photos,
    responses=errors(*SIGNED_IN, *WITH_BODY, "idempotency_conflict", "media_unknown"),
)
async def arrange_photos(
    body: PhotosBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> Photos:
    """Replaces the profile's photos. All are one's own complete images; each shows once it is approved."""
    return await to_the_end(_arranged(dependencies, ArrangePhotos(
        owner_id=person.user_id, media_ids=tuple(body.media_ids), idempotency_key=idempotency_key,
        body_digest=body_digest(dependencies.seals.key, body),
    )))


async def _arranged(dependencies: Dependencies, command: ArrangePhotos) -> Photos:
    answer = await dependencies.media.arrange(command)
    if isinstance(answer, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    if isinstance(answer, MediaUnknown):
        raise Refused("media_unknown", mediaId=answer.media_id)
    if answer.version:
        await dependencies.write_through.apply(put_photos(command.owner_id, answer.shown, answer.version))
    return _photos(dependencies, answer)


def _photos(dependencies: Dependencies, answer: Arranged) -> Photos:
    return Photos(photos=[OwnMedia.of(record, dependencies.media_urls) for record in answer.photos])
