"""What Serve's generated HAProxy configuration becomes before HAProxy reads it."""

from __future__ import annotations

from cluster.embedded.process import wheel
from cluster.launch.haproxy_wrapper import UNAVAILABLE, UNAVAILABLE_BODY, rewrite

GENERATED = """\
global
    log 127.0.0.1:514 local0 info
    stats socket /tmp/x/admin.sock mode 666 level admin
defaults
    log global
    errorfile 502 /tmp/x/500.http
    errorfile 503 /tmp/x/500.http
    errorfile 504 /tmp/x/500.http
frontend prometheus
    bind :9101
frontend http_frontend
    bind 127.0.0.1:8000
    acl routes path -i /-/routes
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path not found."
backend http-api
    http-request return status 404 content-type text/plain string "kept"
listen stats
  bind *:8404
  stats enable
"""


def changed() -> str:
    return rewrite(GENERATED, unavailable_page="/tmp/x/503.http", helper_ports=("9101", "8404"))


def test_helper_ports_listen_on_loopback_and_the_api_where_it_was_told() -> None:
    binds = [line.strip() for line in changed().splitlines() if line.strip().startswith("bind")]
    assert binds == ["bind 127.0.0.1:9101", "bind 127.0.0.1:8000", "bind 127.0.0.1:8404"]


def test_an_unavailable_backend_is_a_503_that_says_when_to_come_back() -> None:
    assert changed().count("/tmp/x/503.http") == 3
    assert "500.http" not in changed()
    page = UNAVAILABLE.format(length=len(UNAVAILABLE_BODY), body=UNAVAILABLE_BODY)
    head, body = page.split("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    assert "Retry-After: 1" in head
    assert f"Content-Length: {len(body)}" in head


def test_a_proxy_that_knows_no_replica_yet_is_unavailable_rather_than_not_found() -> None:
    default = changed().split("backend default_backend\n")[1].split("backend http-api")[0]
    assert default == "    http-request deny deny_status 503\n"
    assert '"kept"' in changed()


def test_control_headers_of_clients_end_at_the_frontend() -> None:
    frontend = changed().split("frontend http_frontend\n")[1].split("backend ")[0]
    assert "del-header x-request-timeout-seconds" in frontend
    assert "set-header x-request-disconnect-disabled ?1" in frontend
    assert frontend.index("/-/routes }") < frontend.index("acl routes")


def test_nothing_is_sent_to_a_syslog() -> None:
    assert "local0" not in changed()


def test_rewriting_twice_changes_nothing_more() -> None:
    assert rewrite(changed(), unavailable_page="/tmp/x/503.http", helper_ports=("9101", "8404")) == changed()


def test_the_installed_template_still_has_the_lines_that_are_rewritten() -> None:
    # Read, not imported: importing Serve warns about its own deprecations.
    template = (wheel("ray") / "serve" / "_private" / "haproxy_templates.py").read_text()
    for line in (
        "log {{ config.log_target }} local0 info",
        "bind :{{ config.metrics_port }}",
        "frontend http_frontend\n    bind {{ config.frontend_host }}:{{ config.frontend_port }}",
        "  bind *:{{ config.stats_port }}",
        "errorfile 503 {{ config.error_file_path }}",
        "backend default_backend\n    http-request return status 404",
    ):
        assert line in template, line
