"""Making pictures and videos, and uploading them as an app does."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from api_world import Person
from local_http import local_client

from cluster.connections.media.store import SignedUpload
from cluster.embedded.ports import free_port
from cluster.embedded.process import accepts


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def picture(seed: int = 0, *, width: int = 320, height: int = 240, form: str = "JPEG", **options: Any) -> bytes:
    """A picture of its own: smooth random fields, so that its perceptual hash is its own too."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    made = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    made.save(buffer, form, **options)
    return buffer.getvalue()


def video(seconds: float = 2.0, *, width: int = 320, height: int = 240, seed: int = 0) -> bytes:
    """An MP4 with picture and sound, and a place written into it as cameras do."""
    from fractions import Fraction

    import av
    import numpy as np

    buffer = io.BytesIO()
    generator = np.random.default_rng(seed)
    with av.open(buffer, "w", format="mp4", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata["location"] = "+52.5200+013.4050/"
        shown = container.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        shown.width, shown.height, shown.pix_fmt = width, height, "yuv420p"
        heard = container.add_stream("aac", rate=44_100, layout="mono")
        base = generator.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8).repeat(40, 0).repeat(40, 1)
        for number in range(int(24 * seconds)):
            frame = av.VideoFrame.from_ndarray(np.roll(base, number * 4, axis=1), format="rgb24")
            container.mux(shown.encode(frame))
        tone = (np.sin(np.arange(int(44_100 * seconds)) / 20) * 8_000).astype(np.int16)
        for start in range(0, len(tone), 1_024):
            sound = av.AudioFrame.from_ndarray(tone[None, start : start + 1_024], format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 44_100, start, Fraction(1, 44_100)
            container.mux(heard.encode(sound))
        container.mux(shown.encode())
        container.mux(heard.encode())
    return buffer.getvalue()


def scene(seed: int, *, width: int = 160, height: int = 120) -> Any:
    """Pixels (height, width, 3) of a picture that no other seed's is like."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def recording(lengths_s: Sequence[float], *, rate: int = 10, uneven_ms: int = 0) -> bytes:
    """A WebM as browsers record them, without a duration: scene after scene, each so many seconds long.

    ``uneven_ms``: every second picture comes later by so much.
    """
    from fractions import Fraction

    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="webm", options={"live": "1"}) as container:
        shown = container.add_stream("libvpx", rate=rate, options={"deadline": "realtime", "cpu-used": "8"})
        shown.width, shown.height, shown.pix_fmt = 160, 120, "yuv420p"
        shown.codec_context.time_base, shown.bit_rate = Fraction(1, 1_000), 2_000_000
        number = 0
        for seed, length_s in enumerate(lengths_s):
            for _ in range(round(length_s * rate)):
                frame = av.VideoFrame.from_ndarray(scene(seed), format="rgb24")
                frame.pts, frame.time_base = number * 1_000 // rate + number % 2 * uneven_ms, Fraction(1, 1_000)
                container.mux(shown.encode(frame))
                number += 1
        container.mux(shown.encode())
    return buffer.getvalue()


def with_duration(webm: bytes, seconds: float) -> bytes:
    """The file with a Duration element (Matroska counts it in milliseconds) at the end of its Info element."""
    info = bytes.fromhex("1549a966")
    place = webm.index(info, webm.index(info) + 4) + 4  # the first one is its place in the table of contents
    length_bytes = 9 - webm[place].bit_length()
    length = int.from_bytes(webm[place : place + length_bytes]) & ((1 << 7 * length_bytes) - 1)
    body = place + length_bytes
    element = bytes.fromhex("448988") + struct.pack(">d", seconds * 1_000)
    longer = ((1 << 56) | (length + len(element))).to_bytes(8)
    return webm[:place] + longer + webm[body : body + length] + element + webm[body + length :]


def upload_body(content: bytes, kind: str = "image", content_type: str = "image/jpeg") -> dict[str, Any]:
    return {"kind": kind, "contentType": content_type, "bytes": len(content), "sha256": sha256(content)}


def send(request: SignedUpload, body: bytes, **headers: str) -> int:
    """The status of an upload as it was signed, with other headers where they are given."""
    answer = httpx.request(request.method, request.url, content=body, headers={**request.headers, **headers}, timeout=60)
    return answer.status_code


async def put(client: httpx.AsyncClient, upload: dict[str, Any], content: bytes) -> None:
    """Makes the requests of a granted upload."""
    start = 0
    for request in upload["requests"]:
        body = content[start : start + request["bytes"]]
        answer = await client.request(request["method"], request["url"], content=body, headers=request["headers"])
        assert answer.status_code == 200, answer.text
        start += len(body)
    assert start == len(content)


async def uploaded(person: Person, content: bytes, kind: str = "image", content_type: str = "image/jpeg") -> str:
    """The id of a media that was uploaded and completed through the API."""
    granted = await person.ok("POST", "/media/uploads", json=upload_body(content, kind, content_type))
    async with local_client(timeout=60) as store:
        await put(store, granted, content)
    done = await person.ok("POST", f"/media/uploads/{granted['mediaId']}/complete")
    assert done["state"] == "uploaded"
    return str(granted["mediaId"])


@contextmanager
def nanio(directory: Path) -> Iterator[str]:
    """The address of an S3 server that checks signatures (access key AK, secret SK)."""
    port = free_port()
    environment = {**os.environ, "NANIO_ACCESS_KEY": "AK", "NANIO_SECRET_KEY": "SK" * 8}
    command = [sys.executable, "-m", "nanio", "serve", "--data-dir", str(directory), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 30
        while not accepts(port):
            assert server.poll() is None, "nanio ended"
            assert time.monotonic() < deadline, "nanio did not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        server.terminate()
