"""Exit code 0 if this container's node is ready. Standard library only, for it runs every 2 seconds."""

import os
import socket
import sys


def ready(port: int, timeout_s: float = 1.5) -> bool:
    """Whether /readyz on this machine's HTTP port answers 200."""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return connection.recv(64).startswith(b"HTTP/1.1 200 ")


if __name__ == "__main__":
    node_id = int(os.environ.get("OTTLA_NODE_ID", "1"))
    try:
        sys.exit(0 if ready(int(os.environ.get("OTTLA_BASE_PORT", "9192")) + 300 + node_id - 1) else 1)
    except OSError as error:
        sys.exit(f"not ready: {error}")
