"""A SOCKS5 proxy on this machine (RFC 1928 and 1929), behind which every name is the stand-in for W&B's server."""

import socket
import socketserver
import threading
from typing import Any


class Socks:
    """asked: the hosts that connections were wanted to, by name or address. logins: user names and passwords given."""

    def __init__(self, port: int) -> None:
        self.asked: list[str] = []
        self.logins: list[tuple[str, str]] = []
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                methods = self._take(self._take(2)[1])
                self.wfile.write(bytes([5, method := 2 if 2 in methods else 0]))
                if method == 2:
                    user = self._take(self._take(2)[1])
                    proxy.logins.append((user.decode(), self._take(self._take(1)[0]).decode()))
                    self.wfile.write(b"\1\0")
                kind = self._take(4)[3]
                length = {1: 4, 4: 16}.get(kind) or self._take(1)[0]
                host = self._take(length)
                proxy.asked.append(host.decode() if kind == 3 else socket.inet_ntop(socket.AF_INET, host))
                self._take(2)
                self.wfile.write(b"\5\0\0\1\0\0\0\0\0\0")
                with socket.create_connection(("127.0.0.1", port)) as there:
                    back = threading.Thread(target=carry, args=(there, self.connection), daemon=True)
                    back.start()
                    carry(self.connection, there)
                    back.join()

            def _take(self, length: int) -> Any:
                return self.rfile.read(length)

            rbufsize = 0

        class Quiet(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None: ...

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while part := source.recv(1 << 16):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
