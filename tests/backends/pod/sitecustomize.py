"""In a pod's process: to listen on all addresses is to listen on the pod's own, as in its network namespace."""

import os
import socket
from typing import Any

_bind = socket.socket.bind


def _bind_in_the_pod(self: socket.socket, address: Any, /) -> None:
    if isinstance(address, tuple) and address[0] in {"0.0.0.0", ""}:  # noqa: S104 - what is replaced
        address = (os.environ["POD_IP"], *address[1:])
    _bind(self, address)


socket.socket.bind = _bind_in_the_pod  # type: ignore[method-assign,assignment]
