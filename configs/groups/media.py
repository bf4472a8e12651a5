"""Uploads."""

from __future__ import annotations

from pydantic import Field, SecretStr

from configs.groups.base import Group


class Media(Group):
    """Uploads, where they are stored, and how they are processed."""

    s3_endpoint: str = Field("", description="URL of the S3 or R2 service; empty: the embedded store")
    s3_bucket: str = Field("sugar-media", description="bucket of all media; private")
    s3_region: str = Field("auto", description="region that requests are signed for; R2: auto")
    s3_access_key_id: str = Field("", description="access key of the bucket")
    s3_secret_access_key: SecretStr = Field(SecretStr(""), description="secret of the access key")
    local_url: str = Field("", description="URL under which clients reach the embedded store; set by launch")
    url_key: SecretStr = Field(SecretStr(""), description="key of playlist URLs and of the embedded store's, 32 bytes hex; empty: made by launch")
    url_ttl_s: int = Field(600, ge=60, le=600, description="seconds a signed URL lives at most; at least half of it")
    watermark: bool = Field(False, description="draw the viewer's id into pictures of posts and messages, their thumbs and videos' posters; each is then made by the API for each viewer")
    upload_ttl_s: int = Field(3_600, ge=60, le=86_400, description="seconds in which an upload must be complete")
    multipart_bytes: int = Field(16 << 20, ge=5 << 20, description="bytes of an upload past which it is made in parts of this size")
    image_bytes: int = Field(30 << 20, ge=1, description="bytes of an uploaded image")
    video_bytes: int = Field(1 << 30, ge=1, description="bytes of an uploaded video")
    items_per_user: int = Field(2_000, ge=1, description="media of one person that are not removed")
    bytes_per_user: int = Field(50 << 30, ge=1, description="bytes of all of them")
    open_uploads_per_user: int = Field(20, ge=1, description="uploads of one person that are not complete yet")
    image_pixels: int = Field(50_000_000, ge=1, description="pixels of an image, all frames together")
    video_seconds: int = Field(600, ge=1, description="seconds of a video; the URLs of its segments work for its length and 300 seconds more")
    process_memory_bytes: int = Field(2 << 30, ge=256 << 20, description="memory of the process that decodes one media")
    image_timeout_s: float = Field(30.0, gt=0, description="CPU seconds in which an image is processed")
    video_timeout_s: float = Field(1_800.0, gt=0, description="CPU seconds in which a video is processed")
    at_once: int = Field(2, ge=1, description="media that each writer has processed at once, images and videos each")
    classifier_url: str = Field("", description="service that scores pictures; empty: everything waits for a person's review")
    classifier_token: SecretStr = Field(SecretStr(""), description="bearer token of the classifier")
    classifier_timeout_s: float = Field(10.0, gt=0, description="seconds the classifier has to answer")
    approve_below: float = Field(0.0, ge=0, le=1, description="highest score with which media is approved without a person; 0: never")
    reject_above: float = Field(1.0, ge=0, le=1, description="lowest score with which it is rejected without a person; 1: never")
