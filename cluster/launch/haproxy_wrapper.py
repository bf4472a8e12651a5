"""Starts HAProxy in place of Ray Serve's call of it; run as a file with ``python -IS``: standard library only.

``haproxy_wrapper.py REAL_BINARY PAGES_DIR PORT,PORT ALLOCATOR haproxy-arguments…``

Ray Serve writes HAProxy's configuration itself and has no option for what is changed here: the helper ports
(statistics, metrics) listen on loopback, clients can neither send Serve's control headers nor list its routes, replicas
do not watch for clients that go away (which takes two tasks a request; what was begun is finished) and get a request
once its body is there (``BODY_S``, then 408), so that a slow client holds nothing of theirs, an unavailable
backend answers 503 with Retry-After instead of a bare 500, nothing is sent to a syslog that nobody runs, and the
process dies with its manager instead of keeping the port as an orphan that answers 500.

``ALLOCATOR`` (a shared library, or empty) takes the place of the C library's: a buffer of HAProxy is as large as a body may be, and a
request touches its ends. Each of them that the C library put elsewhere touched other pages, which stayed.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys

UNAVAILABLE = """\
HTTP/1.1 503 Service Unavailable\r
Content-Type: application/problem+json\r
Retry-After: 1\r
Cache-Control: no-store\r
Content-Length: {length}\r
\r
{body}"""
UNAVAILABLE_BODY = (
    '{"type":"about:blank","title":"Service Unavailable","status":503,"code":"unavailable",'
    '"detail":"No replica could answer; send the request again with its Idempotency-Key."}'
)
BODY_S = 10
"""How long a client may take to send its request; bodies that fit into HAProxy's buffer are waited for whole."""
FRONTEND_RULES = f"""\
    timeout http-request {BODY_S}s
    option http-buffer-request
    http-request del-header x-request-timeout-seconds
    http-request set-header x-request-disconnect-disabled ?1
    http-request return status 404 content-type text/plain string "not found" if {{ path -i /-/routes }}
"""
NO_BACKEND = "    http-request deny deny_status 503"
PR_SET_PDEATHSIG = 1


def rewrite(text: str, *, unavailable_page: str, helper_ports: tuple[str, ...]) -> str:
    """HAProxy's configuration as it should be; applying it twice changes nothing more."""
    for port in helper_ports:
        text = re.sub(rf"(?m)^(\s*bind) \*?:{port}$", rf"\1 127.0.0.1:{port}", text)
    text = re.sub(r"(?m)^(\s*errorfile 50[234]) \S+$", rf"\1 {unavailable_page}", text)
    text = re.sub(r"(?m)^\s*log \S+ local0 info\n", "", text)
    # The application is mounted at "/", so only a proxy that knows no replica yet comes here.
    text = re.sub(r"(?m)^(backend default_backend\n)\s*http-request return status 404[^\n]*$", r"\1" + NO_BACKEND, text)
    if FRONTEND_RULES not in text:
        text = re.sub(r"(?m)^(frontend http_frontend\n[^\n]*\n)", lambda found: found.group(1) + FRONTEND_RULES, text)
    return text


def main() -> None:
    binary, pages, ports, allocator, *arguments = sys.argv[1:]
    if "-f" in arguments:
        configuration = arguments[arguments.index("-f") + 1]
        page = os.path.join(pages, "503.http")
        with open(page, "w", newline="") as file:
            file.write(UNAVAILABLE.format(length=len(UNAVAILABLE_BODY), body=UNAVAILABLE_BODY))
        with open(configuration, newline="") as file:
            text = file.read()
        with open(configuration, "w", newline="") as file:
            file.write(rewrite(text, unavailable_page=page, helper_ports=tuple(ports.split(","))))
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
    os.execve(binary, [binary, *arguments], os.environ | ({"LD_PRELOAD": allocator} if allocator else {}))  # noqa: S606


if __name__ == "__main__":
    main()
