"""Clients as processes of their own, many at once if wanted, forked from one that has imported the libraries.

It runs by itself and knows nothing of the tests: it is told by JSON what a client is to do, and tells by JSON how that
ended. A client that was killed tells nothing. Nothing that uses Icechunk's or obstore's threads is imported before the
fork, for these would not be there after it.
"""

import importlib
import json
import os
import signal
import socket
import sys
import warnings
from typing import Any

FIRST = (
    "cyclopts",
    "h5netcdf",
    "lithops",
    "msgspec",
    "netCDF4",
    "pandas",
    "rich.progress",
    "xarray",
    "zarr",
    "filelock",
)


def serve() -> None:
    """Fork a client for each connection, and tell each one's process id first."""
    for name in FIRST:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        sys.stdout.write(json.dumps(server.getsockname()[1]) + "\n")
        sys.stdout.flush()
        while True:
            connection, _ = server.accept()
            with connection:
                asked = connection.makefile("r").readline()
                with warnings.catch_warnings():
                    # What runs beside are the idle threads of BLAS, which sees to forks itself.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    pid = os.fork()
                if pid:
                    continue
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                server.close()
                _be_client(connection, json.loads(asked))


def _be_client(connection: socket.socket, job: dict[str, Any]) -> None:
    """One client, from its first step to its end."""
    os.environ.update(job["environment"])
    with connection.makefile("w") as told:
        told.write(json.dumps({"pid": os.getpid()}) + "\n")
        told.flush()
        try:
            said = importlib.import_module("client").do(job)
        except BaseException as error:  # noqa: BLE001 - the test is to see it, whatever it is
            said = {"error": type(error).__name__, "says": repr(error), "exit": -1}
        told.write(json.dumps(said) + "\n")
    connection.close()
    os._exit(0)
