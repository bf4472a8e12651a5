"""The classifier that an operator names fails closed: without a clear answer a person decides."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from media_world import picture

from configs.settings import Media
from writers.media.classifying import HttpClassifier, HumanReview


class Scores(BaseHTTPRequestHandler):
    """A classifier that answers what the test says."""

    answer: ClassVar[Any] = {"scores": {"explicit": 0.0}}
    status = 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(type(self).answer).encode()
        self.send_response(type(self).status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def scores() -> Iterator[tuple[type[Scores], str]]:
    handler = type("Answering", (Scores,), {})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("answer", "status", "expected"), [
    ({"scores": {"explicit": 0.05, "minor": 0.0}}, 200, "approved"),
    ({"scores": {"explicit": 0.5}}, 200, "pending"),
    ({"scores": {"explicit": 0.1, "minor": 0.95}}, 200, "rejected"),
    ({"scores": {}}, 200, "pending"),
    ({"scores": {"explicit": 7}}, 200, "pending"),
    ({"scores": {"explicit": "low"}}, 200, "pending"),
    ({"error": "overloaded"}, 200, "pending"),
    ({"scores": {"explicit": 0.0}}, 503, "pending"),
])
def test_the_classifier_fails_closed(
    scores: tuple[type[Scores], str], tmp_path: Path, answer: Mapping[str, Any], status: int, expected: str
) -> None:
    handler, url = scores
    handler.answer, handler.status = answer, status
    sample = tmp_path / "sample.jpg"
    sample.write_bytes(picture(14))
    classifier = HttpClassifier(Media(classifier_url=url, approve_below=0.2, reject_above=0.9))
    assert classifier.judge([sample, sample]).review == expected
    classifier.close()


def test_without_a_classifier_or_without_its_answer_a_person_decides(tmp_path: Path) -> None:
    sample = tmp_path / "sample.jpg"
    sample.write_bytes(picture(14))
    assert HumanReview().judge([sample]).review == "pending"
    away = HttpClassifier(Media(classifier_url="http://127.0.0.1:9/", approve_below=0.9, classifier_timeout_s=0.2))
    assert away.judge([sample]).review == "pending"
    away.close()


def test_no_score_approves_while_the_threshold_is_not_set(scores: tuple[type[Scores], str], tmp_path: Path) -> None:
    sample = tmp_path / "sample.jpg"
    sample.write_bytes(picture(14))
    classifier = HttpClassifier(Media(classifier_url=scores[1]))
    assert classifier.judge([sample]).review == "pending"
    classifier.close()
