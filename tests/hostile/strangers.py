"""Servers that are no PVE, each in its own way, on loopback."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

Conversation = Callable[[socket.socket], None]


@contextmanager
def stranger(talk: Conversation, *, tls: Path | None = None) -> Iterator[str]:
    """Listen and hold this conversation with whoever comes; with `tls`, over TLS, its authority in that file."""
    context = None
    if tls is not None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tls))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()
    open_ones: list[socket.socket] = []

    def one(connection: socket.socket) -> None:
        try:
            wrapped = context.wrap_socket(connection, server_side=True) if context else connection
            open_ones.append(wrapped)
            talk(wrapped)
            wrapped.close()
        except OSError:
            connection.close()

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            open_ones.append(connection)
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)
        for connection in open_ones:
            connection.close()


def request_of(connection: socket.socket) -> bytes:
    """Read one request's head."""
    head = b""
    while b"\r\n\r\n" not in head and (more := connection.recv(4096)):
        head += more
    return head


def answers(body: bytes, *, status: str = "200 OK", kind: str = "application/json") -> Conversation:
    """Answer everything with this."""

    def talk(connection: socket.socket) -> None:
        request_of(connection)
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)

    return talk


def plain_http(connection: socket.socket) -> None:
    """A web server without TLS, as proxies and printers are: our first bytes are no request to it."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def noise(connection: socket.socket) -> None:
    """Something that is neither TLS nor HTTP."""
    connection.sendall(bytes(range(256)) * 8)


def hangs_up(connection: socket.socket) -> None:
    """Takes the connection and drops it."""


def endless(connection: socket.socket) -> None:
    """An answer that never ends."""
    request_of(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
    connection.sendall(b'{"data":"')
    while True:
        connection.sendall(b"x" * 1_000_000)


def odd_head(connection: socket.socket) -> None:
    """A status line without end."""
    request_of(connection)
    connection.sendall(b"HTTP/1.1 200 " + b"x" * 1_000_000 + b"\r\n\r\n")


LOGIN_PAGE = b"<!DOCTYPE html><title>Sign in</title><form>...</form>"
OTHER_JSON = json.dumps({"status": "ok", "version": 3}).encode()
ODD_JSON = json.dumps({"data": [{"version": {"deep": [1] * 1000}}]}).encode()
NOT_UTF8 = b'{"data": {"version": "\xff\xfe"}}'
