"""Free ports for servers that cannot be given a socket."""

import socket


def free_ports(count: int) -> list[int]:
    """Different ports on loopback that are free now.

    They are bound together, so none is given out twice; the system does not soon choose them again by itself.
    """
    sockets = []
    try:
        for _ in range(count):
            sock = socket.socket()
            sockets.append(sock)
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
