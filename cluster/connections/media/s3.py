"""Objects in a bucket of S3, R2 or their like, by boto3.

The bucket is private, its access key may also list it, and it needs two lifecycle rules of its operator: objects under
``quarantine/`` expire after 2 days, unfinished multipart uploads after 1 day (cluster/terraform/buckets.tf sets them).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cluster.connections.media.signing import CACHE_CONTROL
from cluster.connections.media.store import ObjectMissing, SignedUpload, UploadIncomplete
from configs.contracts.errors import DependencyUnavailable
from configs.settings import Media

KEYS_A_CALL: Final = 1_000
"""S3's own limit for one listing, and for one deletion of many."""
_MISSING: Final = ("404", "NoSuchKey", "NotFound")


@contextmanager
def _answering() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _MISSING:
            raise ObjectMissing("no such object") from error
        if code == "NoSuchUpload":
            raise UploadIncomplete("no such upload") from error
        raise DependencyUnavailable("the media store refuses", code=code) from error
    except BotoCoreError as error:
        raise DependencyUnavailable("the media store does not answer", kind=type(error).__name__) from error
    except OSError as error:
        raise DependencyUnavailable("the disk beside the media store does not work", kind=type(error).__name__) from error


class S3Store:
    """Connects when it is first used. May be used from several threads."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._bucket = media.s3_bucket
        self._made: Any = None

    @property
    def _client(self) -> Any:
        if self._made is None:
            import boto3
            from botocore.config import Config

            self._made = boto3.session.Session().client(
                "s3", endpoint_url=self._media.s3_endpoint, region_name=self._media.s3_region,
                aws_access_key_id=self._media.s3_access_key_id,
                aws_secret_access_key=self._media.s3_secret_access_key.get_secret_value(),
                config=Config(
                    signature_version="s3v4", s3={"addressing_style": "path"}, connect_timeout=3, read_timeout=20,
                    retries={"max_attempts": 3, "mode": "standard"}, max_pool_connections=16,
                    request_checksum_calculation="when_required", response_checksum_validation="when_required",
                ),
            )
        return self._made

    def upload(self, key: str, *, content_type: str, size: int, sha256: str, seconds: int) -> SignedUpload:
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        url = self._client.generate_presigned_url(
            "put_object", ExpiresIn=seconds, HttpMethod="PUT",
            Params={
                "Bucket": self._bucket, "Key": key, "ContentType": content_type, "ContentLength": size,
                "ChecksumSHA256": checksum,
            },
        )
        return SignedUpload(
            url, {"Content-Type": content_type, "Content-Length": str(size), "x-amz-checksum-sha256": checksum}
        )

    def begin_parts(self, key: str, content_type: str) -> str:
        with _answering():
            found = self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=content_type)
        return str(found["UploadId"])

    def upload_part(self, key: str, upload_id: str, number: int, *, size: int, seconds: int) -> SignedUpload:
        url = self._client.generate_presigned_url(
            "upload_part", ExpiresIn=seconds, HttpMethod="PUT",
            Params={
                "Bucket": self._bucket, "Key": key, "UploadId": upload_id, "PartNumber": number, "ContentLength": size,
            },
        )
        return SignedUpload(url, {"Content-Length": str(size)})

    def finish_parts(self, key: str, upload_id: str, sizes: Sequence[int]) -> None:
        if not self._finish(key, upload_id, sizes) and self.size(key) != sum(sizes):  # an earlier call may have finished it
            raise UploadIncomplete("parts are missing")

    def _finish(self, key: str, upload_id: str, sizes: Sequence[int]) -> bool:
        try:
            parts = self._parts(key, upload_id)
            if [(part["PartNumber"], part["Size"]) for part in parts] != list(enumerate(sizes, 1)):
                return False
            named = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
            with _answering():
                self._client.complete_multipart_upload(
                    Bucket=self._bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": named}
                )
        except UploadIncomplete:
            return False
        return True

    def _parts(self, key: str, upload_id: str) -> list[Any]:
        found: list[Any] = []
        marker = 0
        while True:
            with _answering():
                page = self._client.list_parts(
                    Bucket=self._bucket, Key=key, UploadId=upload_id, PartNumberMarker=marker
                )
            found += page.get("Parts", [])
            if not page.get("IsTruncated"):
                return sorted(found, key=lambda part: int(part["PartNumber"]))
            marker = int(page["NextPartNumberMarker"])

    def abort_parts(self, key: str, upload_id: str) -> None:
        try:
            with _answering():
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
        except (ObjectMissing, UploadIncomplete):
            return

    def size(self, key: str) -> int | None:
        try:
            with _answering():
                return int(self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"])
        except ObjectMissing:
            return None

    def fetch(self, key: str, path: Path, most: int) -> None:
        with _answering():
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            written = 0
            with path.open("wb") as output:
                for chunk in body.iter_chunks(1 << 20):
                    written += len(chunk)
                    if written > most:
                        raise UploadIncomplete("the object is longer than it may be")
                    output.write(chunk)

    def put(self, key: str, path: Path, content_type: str) -> None:
        with _answering(), path.open("rb") as body:
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=body, ContentType=content_type, CacheControl=CACHE_CONTROL
            )

    def copy(self, source: str, target: str) -> None:
        with _answering():
            self._client.copy_object(
                Bucket=self._bucket, Key=target, CopySource={"Bucket": self._bucket, "Key": source}
            )

    def delete(self, keys: Iterable[str]) -> None:
        named = [{"Key": key} for key in keys]
        for start in range(0, len(named), KEYS_A_CALL):
            with _answering():
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": named[start : start + KEYS_A_CALL], "Quiet": True}
                )
            if answer.get("Errors"):
                raise DependencyUnavailable("the media store did not delete", count=len(answer["Errors"]))

    def delete_below(self, folder: str) -> None:
        more = True
        while more:
            with _answering():
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=f"{folder}/", MaxKeys=KEYS_A_CALL)
            self.delete(found["Key"] for found in page.get("Contents", ()))
            more = bool(page.get("IsTruncated"))
