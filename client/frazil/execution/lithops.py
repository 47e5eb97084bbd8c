"""Calls on whatever Lithops reaches: processes of this machine, Lambda, Kubernetes, and others.

What a function does, and what becomes of an outcome, is not known here.

What functions leave in the staging bucket is read as data (see `frazil.execution.channel`), but for the values of
functions of the user's own, which are loaded as pickles.
"""

import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self

from frazil.costing.limits import FunctionLimits
from frazil.execution.asking import remote_versions
from frazil.execution.configuration import Settings
from frazil.execution.executor import Executor
from frazil.execution.opening import (
    check_configuration,
    configuration,
    configured_limits,
    configured_local,
    configured_workers,
)
from frazil.execution.session import Session
from frazil.execution.submitting import LithopsCalls
from frazil.runtime import metadata
from frazil_functions.errors import InvalidInputError

_UNREAD: Final = object()


class LithopsExecutor(Executor):
    """Runs calls through Lithops.

    Parameters
    ----------
    backend
        Lithops' name of a compute backend, such as "localhost", "aws_lambda" or "k8s". By default what
        the configuration names, and "localhost" where there is no configuration.
    config, config_file
        Lithops' configuration, as a mapping or a YAML file. By default the file that Lithops itself
        finds: LITHOPS_CONFIG, LITHOPS_CONFIG_FILE, ./.lithops_config, ~/.lithops/config or /etc/lithops/config.
    workers
        How many calls may run at once. By default one for each CPU on localhost, and elsewhere what
        the configuration allows.
    start_deadline
        Seconds without any call starting or ending, while there is room for more, after which calls
        that have not started are given up.
    call_timeout
        Seconds that one call may run; by default Lithops' `execution_timeout`. A call that has run for
        longer and said nothing is given up.

    Raises
    ------
    InvalidInputError
        If a setting cannot be meant, or the configuration file is missing.

    Examples
    --------
    >>> import math
    >>> with LithopsExecutor(backend="localhost", workers=1) as executor:
    ...     [outcome.value for outcome in executor.map(math.sqrt, [4.0])]
    [2.0]
    """

    def __init__(
        self,
        *,
        backend: str | None = None,
        config: Mapping[str, Any] | None = None,
        config_file: str | Path | None = None,
        workers: int | None = None,
        start_deadline: float = 300.0,
        call_timeout: float | None = None,
    ) -> None:
        self._settings = Settings(
            backend=backend,
            config=config,
            config_file=Path(config_file) if config_file is not None else None,
            workers=workers,
            start_deadline=start_deadline,
            call_timeout=call_timeout,
        )
        self._lazy = _LazySession(self._settings)
        # An executor that nobody closes is closed with its last user, or when the interpreter ends.
        self._close = weakref.finalize(self, self._lazy.close)
        self._workers: int | None = None
        self._limits: FunctionLimits | object | None = _UNREAD

    @property
    def workers(self) -> int:
        """How many calls can run at once. Where only the configuration says it, it is read; nothing is started."""
        if self._workers is None:
            self._workers = configured_workers(self._settings)
        return self._workers

    @property
    def local(self) -> bool:
        """Whether calls run on this machine. Where only the configuration says it, it is read; nothing is started."""
        return configured_local(self._settings)

    def check(self) -> None:
        """Refuse a backend that Lithops does not have, or that is not configured; connects to nothing."""
        check_configuration(self._settings)

    def limits(self) -> FunctionLimits | None:
        """What a function may have, as the configuration sets it; None on this machine. It is read once."""
        if self._limits is _UNREAD:
            self._limits = configured_limits(self._settings)
        return self._limits if isinstance(self._limits, FunctionLimits) else None

    def configuration(self) -> dict[str, Any]:
        """Lithops' configuration with all its defaults; connects to nothing.

        Raises
        ------
        InvalidInputError, BackendError
            If it cannot be meant, or what Lithops needs for it is not installed.
        """
        return configuration(self._settings)

    def sized(self, memory: int) -> "LithopsExecutor":
        """The same with functions of another size, in MB; it is closed by itself.

        Raises
        ------
        InvalidInputError, BackendError
            As `configuration` does.
        """
        config = self.configuration()
        backend = str(config["lithops"]["backend"])
        made = LithopsExecutor(
            backend=backend,
            config={**config, backend: {**config[backend], "runtime_memory": memory}},
            workers=self._settings.workers,
            start_deadline=self._settings.start_deadline,
            call_timeout=self._settings.call_timeout,
        )
        if self._settings.warned.is_set():  # what this one was warned of holds for the other
            made._settings.warned.set()
        return made

    def ready(self) -> None:
        """Connect to the backend, and refuse one that lacks the function or has other versions.

        On Lambda the function's metadata says its versions; where it does not, the function is asked.
        """
        self.check()
        if self.local:
            return
        runtime = self._lazy.open().result().runtime
        if runtime is not None and not runtime.versions:
            differs = metadata.difference(remote_versions(self))
            if differs:
                raise metadata.differing("The function", differs)

    def warm(self) -> None:
        """Import Lithops and connect to the backend, in the background."""
        self._lazy.open()

    def calls[T, R](self, function: Callable[[T], R]) -> LithopsCalls[T, R]:
        """Calls of `function`, none yet; the backend is connected to at the first submission."""
        # The calls keep the executor, which is closed with its last user.
        return LithopsCalls(function, lambda: self._lazy.open().result().watch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """End what still runs, and remove what Lithops left here and in its storage."""
        self._close()


class _LazySession:
    """A session that is opened once, in the background. It outlives the executor that nobody closes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opener = ThreadPoolExecutor(max_workers=1, thread_name_prefix="frazil-lithops-opener")
        self._opening: Future[Session] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def open(self) -> Future[Session]:
        with self._lock:
            if self._closed:
                raise InvalidInputError("The executor is closed; make another one, or call it within its `with`")
            if self._opening is None:
                self._opening = self._opener.submit(Session, self._settings)
            return self._opening

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._opener.shutdown(wait=True)
        if self._opening is not None and self._opening.exception() is None:
            self._opening.result().close()
