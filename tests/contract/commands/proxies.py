"""A small HTTP/1.1 proxy on loopback that spoils streams in one stated way."""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

Sender = Callable[[BaseHTTPRequestHandler, http.client.HTTPResponse], None]
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


def _head(
    handler: BaseHTTPRequestHandler, reply: http.client.HTTPResponse, drop: tuple[str, ...] = (), **more: str
) -> None:
    handler.send_response_only(reply.status)
    for name, value in reply.getheaders():
        if name.lower() not in {*_HOP_BY_HOP, *drop}:
            handler.send_header(name, value)
    for name, value in more.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def pass_on(handler: BaseHTTPRequestHandler, reply: http.client.HTTPResponse) -> None:
    """Every piece at once, as a proxy should."""
    _head(handler, reply, connection="close", via="1.1 fair-proxy")
    while piece := reply.read1(65536):
        handler.wfile.write(piece)


def hold_back(handler: BaseHTTPRequestHandler, reply: http.client.HTTPResponse) -> None:
    """Nothing before it has everything, as nginx can be made to do."""
    body = reply.read()
    _head(
        handler,
        reply,
        ("x-accel-buffering", "content-length"),
        server="nginx/1.24.0",
        content_length=str(len(body)),
        connection="close",
    )
    handler.wfile.write(body)


def compress(handler: BaseHTTPRequestHandler, reply: http.client.HTTPResponse) -> None:
    """Compressed whole, without a name."""
    body = gzip.compress(reply.read())
    _head(handler, reply, ("content-length",), content_encoding="gzip", connection="close")
    handler.wfile.write(body)


def gather(handler: BaseHTTPRequestHandler, reply: http.client.HTTPResponse) -> None:
    """In pieces of 4 KiB."""
    _head(handler, reply, ("content-length",), server="Apache/2.4", connection="close")
    while piece := reply.read(4096):
        handler.wfile.write(piece)
        handler.wfile.flush()


def lose_key(handler: BaseHTTPRequestHandler, reply: http.client.HTTPResponse) -> None:
    """Fairly, but without the caller's Authorization; see `proxy`."""
    pass_on(handler, reply)


@contextmanager
def proxy(upstream: str, send: Sender) -> Iterator[str]:
    """A proxy in front of `upstream` (host:port) while the block runs; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._relay()

        def do_POST(self) -> None:
            self._relay()

        def _relay(self) -> None:
            connection = http.client.HTTPConnection(upstream, timeout=60)
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            dropped = {"host", "connection", *(("authorization",) if send is lose_key else ())}
            headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
            connection.request(self.command, self.path, body or None, headers)
            send(self, connection.getresponse())
            connection.close()
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
