"""Calls on whatever Lithops reaches: processes of this machine, Lambda, Kubernetes, and others.

The only module that imports Lithops, and not before the first call or `LithopsExecutor.warm`. What a
function does, and what becomes of an outcome, it does not know.

Lithops evaluates what functions leave in the staging bucket: who can write there can run code in the client.
"""

import importlib.util
import logging
import os
import runpy
import secrets
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Self

from frazil.execution import localhost
from frazil.execution.configuration import (
    LOCAL_INTERVAL,
    REMOTE_INTERVAL,
    UNKNOWN_WORKERS,
    Settings,
    completed,
    workers_of,
)
from frazil.execution.executor import Outcome
from frazil.execution.watching import Calls, Surroundings
from frazil.execution.wire import packed, remote
from frazil_functions.errors import BackendError, FrazilError, InvalidInputError

logger = logging.getLogger(__name__)

_OPENING = threading.Lock()


class LithopsExecutor:
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

    @property
    def workers(self) -> int:
        """How many calls can run at once. Where only the configuration says it, it is read; nothing is started."""
        if self._workers is None:
            self._workers = _workers(self._settings)
        return self._workers

    def warm(self) -> None:
        """Import Lithops and connect to the backend, in the background."""
        self._lazy.open()

    def map[T, R](self, function: Callable[[T], R], arguments: Sequence[T]) -> Generator[Outcome[R], None, None]:
        """Call `function` once for each argument; yield each outcome as soon as the call ends.

        The calls start when the first outcome is asked for. One that fails does not stop the others.

        Raises
        ------
        InvalidInputError
            If the function or an argument cannot be pickled, or the executor is closed; nothing has run then.
        BackendError
            If the backend cannot be reached or refuses the calls.
        """
        if not arguments:
            return
        calls = self._lazy.open().result().start(function, arguments)
        try:
            for _ in arguments:
                yield calls.next()
        finally:
            calls.end()

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
        self._opening: Future[_Session] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def open(self) -> "Future[_Session]":
        with self._lock:
            if self._closed:
                raise InvalidInputError("The executor is closed; make another one, or call it within its `with`")
            if self._opening is None:
                self._opening = self._opener.submit(_Session, self._settings)
            return self._opening

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._opener.shutdown(wait=True)
        if self._opening is not None and self._opening.exception() is None:
            self._opening.result().close()


def _workers(settings: Settings) -> int:
    """How many calls can run at once, without a connection to anything."""
    if settings.workers is not None:
        return settings.workers
    if settings.backend == "localhost":
        return localhost.cpus()
    with _blamed_on_the_environment(settings), ExitStack() as stack:
        config, local = _configuration(settings, stack)
        if local:
            return localhost.cpus()
        return workers_of(config, _defaults)


def _defaults(backend: str) -> Mapping[str, Any]:
    """What Lithops sets for a backend where the configuration does not; empty for one that it does not know.

    The file is run by itself: importing the package would import the provider's library, for a second.
    """
    package = importlib.util.find_spec("lithops")
    assert package is not None
    for directory in package.submodule_search_locations or ():
        for file in Path(directory).glob(f"*/backends/{backend}/config.py"):
            found: Mapping[str, Any] = runpy.run_path(str(file)).get("DEFAULT_CONFIG_KEYS", {})
            return found
    return {}


def _configuration(settings: Settings, stack: ExitStack) -> tuple[dict[str, Any], bool]:
    """Lithops' configuration, completed, and whether its backend is this machine; imports Lithops."""
    with _OPENING:
        home = _import_lithops()
        if home is not None:
            home.enter()
            stack.callback(home.leave)
    from lithops.config import load_config  # noqa: PLC0415  at its first use, as all of Lithops

    found = settings.config
    if found is None:
        found = load_config(settings.config_file and str(settings.config_file))
    return completed(found, settings.backend)


@contextmanager
def _blamed_on_the_environment(settings: Settings) -> Iterator[None]:
    try:
        yield
    except FrazilError:
        raise
    except Exception as error:  # every backend and cloud library raises errors of its own
        raise BackendError(
            f"Lithops cannot use {settings.backend or 'the configured backend'}: {error}. "
            "Check the backend's name, its section of Lithops' configuration, and credentials; "
            "`lithops hello` tries them without Frazil"
        ) from error


class _Session:
    """A Lithops executor with the surroundings it needs, from its creation to its removal."""

    def __init__(self, settings: Settings) -> None:
        with _blamed_on_the_environment(settings), ExitStack() as stack:
            self._open(settings, stack)
            self._closing = stack.pop_all()

    def _open(self, settings: Settings, stack: ExitStack) -> None:
        config, local = _configuration(settings, stack)
        # Lithops takes a tenth of a second and more to import; here and below it waits for its first use.
        from lithops import FunctionExecutor, constants  # noqa: PLC0415

        workers = settings.workers or (localhost.cpus() if local else None)
        options: dict[str, Any] = {}
        if local:
            directory = Path(tempfile.mkdtemp(prefix="frazil-", dir=constants.TEMP_DIR))
            stack.callback(localhost.remove, directory)
            launcher = str(localhost.write_launcher(directory, Path(constants.TEMP_DIR)))
            # Version 2 starts an interpreter for each call, 0.15 s more than version 1 and its forks. Then
            # a worker's end is seen at once and tells its signal; version 1 waits for a killed worker for
            # ever. A job of one call, or of one call for each worker, takes as long with both.
            options = {"version": 2, "runtime": launcher, "worker_processes": workers}
            stack.callback(_describe_runtime(launcher))
        elif workers is not None:
            options = {"max_workers": workers}

        # Lithops numbers its executors through the environment, which belongs to the whole process.
        with _OPENING, _own_session_id(constants):
            # Of all log levels None alone leaves the logging of this process as it is.
            self._executor: Any = FunctionExecutor(config=config, log_level=None, **options)
        self._constants: Any = constants
        self._settings = settings
        self._running: set[Calls] = set()
        self._cleaner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="frazil-lithops-cleaner")
        stack.callback(self._leave)
        self.around = Surroundings(
            storage=self._executor.internal_storage,
            monitor=self._executor.job_monitor,
            environment=self._executor.compute_handler.env if local else None,
            workers=workers or self._executor.invoker.max_workers or UNKNOWN_WORKERS,
            interval=LOCAL_INTERVAL if local else REMOTE_INTERVAL / 5,
            start_deadline=settings.start_deadline,
        )

    def start(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> Calls:
        """Submit one call for each argument."""
        from lithops.job.serialize import SerializeIndependent  # noqa: PLC0415  at its first use

        pickles = SerializeIndependent([])
        name = getattr(function, "__qualname__", repr(function))

        # Lithops' own pickles also carry what is defined in a script or a notebook.
        def dumps(value: object) -> bytes:
            return bytes(pickles.dumps([value])[0])

        call = remote(packed(function, f"The function {name}", dumps))
        # In a tuple of its own no argument is taken for a list of arguments, for keywords or for a future.
        packets = [
            (packed(argument, f"The argument of call {index} of {name}", dumps),)
            for index, argument in enumerate(arguments)
        ]
        timeout = self._settings.call_timeout
        try:
            # No modules are sent along: finding them takes seconds, and both sides hold them by contract.
            futures = self._executor.map(call, packets, timeout=timeout, include_modules=None)
        except Exception as error:  # as for opening: errors of the backend's own
            raise BackendError(f"Lithops could not start the calls of {name}: {error}") from error
        calls = Calls(name, list(futures), self.around, self._forget)
        self._running.add(calls)
        return calls

    def _forget(self, calls: Calls) -> None:
        """Drop what Lithops keeps of these calls, here and in storage; end those that run, if possible."""
        self._running.discard(calls)
        jobs, handler = {calls.job_key}, self._executor.compute_handler
        # The capacity that lost calls seem to hold would be missing to the next map.
        self._executor.invoker.discard_pending(jobs, {future.job_id for future in calls.futures})
        if self.around.environment is None:
            handler.clear(jobs)  # some backends keep an object for each job
        elif calls.unfinished:
            calls.kill()
            handler.clear(jobs, exception=BackendError("ended by the client"))
        self._executor.job_monitor.remove(calls.futures)
        if not self._running:
            if self.around.environment is not None and calls.unfinished:
                self._await_manager()
            self._executor.job_monitor.stop()  # it remembers every call it saw; the next map gets a new one
            self._executor.futures.clear()
        self._clean(calls.job_key)

    def _await_manager(self) -> None:
        # A job that comes while the manager thread of the one before is ending never gets workers.
        handler, patience = self._executor.compute_handler, time.monotonic() + 5
        while handler.job_manager is not None and time.monotonic() < patience:
            time.sleep(0.005)

    def _clean(self, job_key: str) -> None:
        try:
            self._cleaner.submit(self._delete, job_key)
        except RuntimeError:  # the interpreter is ending, and starts no more threads
            self._delete(job_key)

    def _delete(self, job_key: str) -> None:
        # The slash matters: the key of job 1 is also how that of job 10 begins.
        prefix = f"{self._constants.JOBS_PREFIX}/{job_key}/"
        storage, bucket = self.around.storage.storage, self.around.storage.bucket
        try:
            keys = storage.list_keys(bucket, prefix)
            if keys:
                storage.delete_objects(bucket, keys)
        except Exception as error:  # noqa: BLE001  the job is done; each storage backend has errors of its own
            logger.warning("Could not delete what Lithops left in %s/%s: %s", bucket, prefix, error)
        Path(self._constants.LOGS_DIR, f"{job_key}.log").unlink(missing_ok=True)

    def _leave(self) -> None:
        self._executor.__exit__(None, None, None)
        if self.around.environment is not None:
            self._await_manager()
        invocations = getattr(self._executor.invoker, "executor", None)
        if invocations is not None:  # a thread pool of the backends that take single calls; nothing else ends it
            invocations.shutdown(cancel_futures=True)
        self._clean(self._executor.executor_id)
        self._cleaner.shutdown()
        # Not before the threads that start workers have ended: one that misses its file here dies of it.
        for directory in Path(self._constants.JOBS_DIR).glob(f"{self._executor.executor_id}-*"):
            localhost.remove(directory)

    def close(self) -> None:
        """End every call, thread and file of this session."""
        for calls in list(self._running):
            calls.end()
        self._closing.close()


@cache
def _import_lithops() -> localhost.Home | None:
    """Import Lithops with a temporary directory of its own; None if somebody imported it before.

    Lithops takes its directory from `tempfile`, in `lithops.constants`. Other threads may ask `tempfile` for
    a file meanwhile, so that module alone is loaded ahead, in no time, and not the whole package.
    """
    if "lithops" in sys.modules:
        return None
    package = importlib.util.find_spec("lithops")
    if package is None or package.origin is None:
        raise BackendError("Lithops is not installed; `pip install frazil` brings it")
    file = Path(package.origin).with_name("constants.py")
    spec = importlib.util.spec_from_file_location("lithops.constants", file)
    assert spec is not None
    assert spec.loader is not None
    constants = importlib.util.module_from_spec(spec)
    home = localhost.Home()
    usual, tempfile.tempdir = tempfile.tempdir, str(home.path)
    try:
        spec.loader.exec_module(constants)
    finally:
        tempfile.tempdir = usual
    sys.modules["lithops.constants"] = constants

    import lithops  # noqa: PLC0415  not before its constants

    lithops.constants = constants
    # With no handler, neither its own nor the application's, its warnings would go to stderr.
    logging.getLogger("lithops").addHandler(logging.NullHandler())
    return home


def _describe_runtime(runtime: str) -> Callable[[], None]:
    """Tell Lithops what it would start a process to find out, and keep under the home directory."""
    from lithops.constants import RUNTIMES_PREFIX  # noqa: PLC0415  at its first use, as all of Lithops
    from lithops.localhost.config import runtime_key  # noqa: PLC0415  the same
    from lithops.storage.storage import RUNTIME_META_CACHE  # noqa: PLC0415  the same
    from lithops.utils import CURRENT_PY_VERSION  # noqa: PLC0415  the same
    from lithops.version import __version__  # noqa: PLC0415  the same

    key = f"{RUNTIMES_PREFIX}/{runtime_key(runtime)}.meta.json"
    RUNTIME_META_CACHE[key] = {
        "preinstalls": [],  # of use to the search for modules alone, which is off
        "python_version": CURRENT_PY_VERSION,
        "lithops_version": __version__,
        "runtime_timeout": None,
    }
    return lambda: RUNTIME_META_CACHE.pop(key, None)


@contextmanager
def _own_session_id(constants: Any) -> Iterator[None]:  # noqa: ANN401  Lithops has no types
    """Name the next Lithops executor apart from all others, and leave the environment as it was.

    The names of job data begin with a session id. Lithops reads it from the environment, or invents one of
    24 bits and exports it; programs started from this one would then write over each other's data.
    """
    names = (constants.SESSION_ID_ENV, constants.TOTAL_EXECUTORS_ENV)
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[constants.SESSION_ID_ENV] = secrets.token_hex(8)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
