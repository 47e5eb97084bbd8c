"""Calls on whatever Lithops reaches: processes of this machine, Lambda, Kubernetes, and others.

The only module that imports Lithops, and not before the first call or `LithopsExecutor.warm`. What a
function does, and what becomes of an outcome, it does not know.

Lithops evaluates what functions leave in the staging bucket: who can write there can run code in the client.
"""

import importlib.util
import logging
import os
import re
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from subprocess import Popen
from typing import Any, Self

from frazil.execution import localhost
from frazil.execution.executor import Outcome
from frazil.execution.wire import packed, received, remote
from frazil_functions.errors import BackendError, FrazilError, InvalidInputError

logger = logging.getLogger(__name__)

# Seconds between two looks at the calls of a map. Lithops' own monitor reads the statuses; by default every
# 2 s, which is how long each job would idle at its end. Listing a local directory is nearly free; in object
# storage a second is a few LIST requests a minute.
_LOCAL_INTERVAL = 0.03
_REMOTE_INTERVAL = 1.0
_DOWNLOADS = 16  # values above 8 kB lie in storage, one request away each

_SECRET = re.compile(
    r"(secret|passw|token|access_key|api_?key|account_key|private_key|connection_string|amqp_url)",
    re.IGNORECASE,
)
_NOT_SECRET = re.compile(r"_(path|file|name|arn)$", re.IGNORECASE)

_OPENING = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    backend: str | None
    config: Mapping[str, Any] | None
    config_file: Path | None
    workers: int | None
    start_deadline: float
    call_timeout: float | None

    def __post_init__(self) -> None:
        if self.config is not None and self.config_file is not None:
            raise InvalidInputError("Lithops' configuration is given twice: pass config or config_file, not both")
        if self.config_file is not None and not self.config_file.is_file():
            raise InvalidInputError(f"There is no Lithops configuration file {str(self.config_file)!r}")
        for name in ("workers", "start_deadline", "call_timeout"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InvalidInputError(f"{name} is {value}; it must be greater than zero")


class LithopsExecutor:
    """Runs calls through Lithops.

    Parameters
    ----------
    backend
        Lithops' name of a compute backend, such as "localhost", "aws_lambda" or "k8s". By default what
        the configuration names, and "localhost" where there is no configuration.
    config, config_file
        Lithops' configuration, as a mapping or a YAML file. By default the file that Lithops itself
        finds: LITHOPS_CONFIG_FILE, ./.lithops_config, ~/.lithops/config or /etc/lithops/config.
    workers
        How many calls may run at once. By default one for each CPU on localhost, and elsewhere what
        the configuration allows.
    start_deadline
        Seconds without any call starting or ending, while there is room for more, after which calls
        that have not started are given up.
    call_timeout
        Seconds that one call may run; by default Lithops' `execution_timeout`, an hour on localhost.

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
        config_file: Path | None = None,
        workers: int | None = None,
        start_deadline: float = 300.0,
        call_timeout: float | None = None,
    ) -> None:
        self._settings = _Settings(
            backend=backend,
            config=config,
            config_file=config_file,
            workers=workers,
            start_deadline=start_deadline,
            call_timeout=call_timeout,
        )
        self._opener = ThreadPoolExecutor(max_workers=1, thread_name_prefix="frazil-lithops")
        self._opening: Future[_Session] | None = None
        self._lock = threading.Lock()

    @property
    def workers(self) -> int:
        """How many calls can run at once. Where only the configuration says it, this waits for Lithops."""
        if self._settings.workers is not None:
            return self._settings.workers
        if self._settings.backend == "localhost":
            return localhost.cpus()
        return self._session().workers

    def warm(self) -> None:
        """Import Lithops and connect to the backend, in the background."""
        with self._lock:
            if self._opening is None:
                self._opening = self._opener.submit(_Session, self._settings)

    def map[T, R](self, function: Callable[[T], R], arguments: Sequence[T]) -> Iterator[Outcome[R]]:
        """Call `function` once for each argument; yield each outcome as soon as the call ends.

        The calls start when the first outcome is asked for. One that fails does not stop the others.

        Raises
        ------
        InvalidInputError
            If the function or an argument cannot be pickled; nothing has run then.
        BackendError
            If the backend cannot be reached or refuses the calls.
        """
        if not arguments:
            return
        calls = self._session().start(function, arguments)
        try:
            for _ in arguments:
                yield calls.next()
        finally:
            calls.end()

    def _session(self) -> "_Session":
        self.warm()
        assert self._opening is not None
        return self._opening.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """End what still runs, and remove what Lithops left here and in its storage."""
        self._opener.shutdown(wait=True)
        if self._opening is not None and self._opening.exception() is None:
            self._opening.result().close()


class _Session:
    """A Lithops executor with the surroundings it needs, from its creation to its removal."""

    def __init__(self, settings: _Settings) -> None:
        try:
            # Lithops numbers executors through the environment, which belongs to the whole process.
            with _OPENING, ExitStack() as stack:
                self._open(settings, stack)
                self._closing = stack.pop_all()
        except FrazilError:
            raise
        except Exception as error:  # every backend, and every cloud's library below it, raises errors of its own
            raise BackendError(
                f"Lithops cannot use {settings.backend or 'the configured backend'}: {error}. "
                "Check its configuration and credentials; `frazil doctor` says what is missing"
            ) from error

    def _open(self, settings: _Settings, stack: ExitStack) -> None:
        home = _import_lithops()
        if home is not None:
            home.enter()
            stack.callback(home.leave)
        from lithops import FunctionExecutor, constants  # noqa: PLC0415  a third of a second; at first use only

        config, local = _configuration(settings)
        self.settings = settings
        backend_settings: dict[str, Any] = {}
        if local:
            directory = Path(tempfile.mkdtemp(prefix="frazil-", dir=constants.TEMP_DIR))
            stack.callback(localhost.remove, directory)
            launcher = localhost.write_launcher(directory, Path(constants.TEMP_DIR))
            # Version 2 starts an interpreter for each call, 0.15 s more than the fork of version 1. In return the
            # end of a worker is seen at once and names its signal; version 1 waits for ever for a killed one.
            # A job of one call, or of one call for each worker, takes equally long with both.
            backend_settings |= {"version": 2, "runtime": str(launcher)}
            backend_settings["worker_processes"] = settings.workers or localhost.cpus()
            stack.callback(_describe_runtime(str(launcher)))
        elif settings.workers is not None:
            backend_settings["max_workers"] = settings.workers

        with _own_session_id(constants):
            # Of all log levels, None alone leaves the logging of this process as it is.
            self.executor: Any = FunctionExecutor(config=config, log_level=None, **backend_settings)
        stack.callback(self._leave)
        self._cleaner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="frazil-lithops-cleaner")
        stack.callback(self._cleaner.shutdown)
        self._constants: Any = constants
        self.storage: Any = self.executor.internal_storage
        self.local_environment: Any = self.executor.compute_handler.env if local else None
        self.interval = _LOCAL_INTERVAL if local else _REMOTE_INTERVAL / 5
        self.workers: int = backend_settings.get("worker_processes") or self.executor.invoker.max_workers or 1000
        self._running: set[_Calls] = set()

    def start(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> "_Calls":
        """Submit one call for each argument."""
        from lithops.job.serialize import SerializeIndependent  # noqa: PLC0415  see above

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
        try:
            # None: send no modules along. Finding them takes seconds, and both sides hold them by contract.
            futures = self.executor.map(call, packets, timeout=self.settings.call_timeout, include_modules=None)
        except Exception as error:  # as for opening, with the backend's errors at invocation
            raise BackendError(f"Lithops could not start the calls of {name}: {error}") from error
        calls = _Calls(self, name, list(futures))
        self._running.add(calls)
        return calls

    def forget(self, calls: "_Calls", *, stop: bool) -> None:
        """Drop all that Lithops keeps of these calls, here and in storage; end those that run, if possible."""
        self._running.discard(calls)
        jobs, handler = {calls.job_key}, self.executor.compute_handler
        # The capacity that lost calls seem to hold would be missing to the next map.
        self.executor.invoker.discard_pending(jobs, {calls.job_id})
        if self.local_environment is None:
            handler.clear(jobs)  # the objects of finished jobs, where a backend keeps some
        elif stop:
            calls.kill()
            handler.clear(jobs, exception=BackendError("ended by the client"))
            self._await_manager()
        self.executor.job_monitor.remove(calls.futures)
        self.executor.job_monitor.stop()  # the next map gets a new one; this one remembers every call it saw
        self.executor.futures.clear()
        self._cleaner.submit(self._delete, calls.job_key)

    def _await_manager(self) -> None:
        # A job that comes while the manager thread of the one before is ending never gets workers.
        handler, patience = self.executor.compute_handler, time.monotonic() + 5
        while handler.job_manager is not None and time.monotonic() < patience:
            time.sleep(0.005)

    def _delete(self, job_key: str) -> None:
        # Lithops' own cleaner is another process that outlives this one by seconds.
        # The slash matters: the key of job 1 is also how that of job 10 begins.
        prefix = f"{self._constants.JOBS_PREFIX}/{job_key}/"
        try:
            keys = self.storage.storage.list_keys(self.storage.bucket, prefix)
            if keys:
                self.storage.storage.delete_objects(self.storage.bucket, keys)
        except Exception as error:  # noqa: BLE001  the job is done; each storage backend has errors of its own
            logger.warning("Could not delete %s/%s of Lithops: %s", self.storage.bucket, prefix, error)
        localhost.remove(Path(self._constants.JOBS_DIR, job_key))
        Path(self._constants.LOGS_DIR, f"{job_key}.log").unlink(missing_ok=True)

    def _leave(self) -> None:
        self.executor.__exit__(None, None, None)
        if self.local_environment is not None:
            self._await_manager()
        invocations = getattr(self.executor.invoker, "executor", None)  # a thread pool that nothing else ends
        if invocations is not None:
            invocations.shutdown(cancel_futures=True)
        self._delete(self.executor.executor_id)

    def close(self) -> None:
        """End every call, thread and file of this session."""
        for calls in list(self._running):
            calls.end()
        self._closing.close()


class _Calls:
    """The calls of one map: watched from a thread, so that a slow reader of outcomes delays nothing."""

    def __init__(self, session: _Session, name: str, futures: list[Any]) -> None:
        self.futures = futures
        self.job_key: str = futures[0].job_key
        self.job_id: str = futures[0].job_id
        self._session = session
        self._name = name
        self._waiting = dict(enumerate(futures))
        self._processes: dict[int, Popen[bytes]] = {}
        self._outcomes: SimpleQueue[Outcome[Any] | BaseException] = SimpleQueue()
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._signs = (0, 0)
        self._last_sign = time.monotonic()
        self._watcher = threading.Thread(target=self._watch, name="frazil-lithops-calls", daemon=True)
        self._watcher.start()

    def next(self) -> Outcome[Any]:
        """The next call that ended, whichever it is."""
        outcome = self._outcomes.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def end(self) -> None:
        """End the calls that still run; do nothing when called again."""
        with self._lock:
            if self._ending.is_set():
                return
            self._ending.set()
        self._watcher.join()
        self._outcomes.put(BackendError("The executor was left while its calls were running"))
        self._session.forget(self, stop=bool(self._waiting))

    def kill(self) -> None:
        """End the worker processes of these calls on this machine."""
        for process in self._processes.values():
            localhost.kill(process)

    def _watch(self) -> None:
        try:
            with ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="frazil-lithops-values") as downloads:
                while self._waiting and not self._ending.wait(self._session.interval):
                    for index, future in list(self._waiting.items()):
                        if _has_reported(future):
                            del self._waiting[index]
                            downloads.submit(self._fetch, index, future)
                    for index, reason in list(self._lost()):
                        self._session.executor.job_monitor.remove([self._waiting.pop(index)])
                        self._give_up(index, reason)
        except BaseException as error:  # noqa: BLE001  raised again by `next`, in the thread that reads outcomes
            self._outcomes.put(error)

    def _fetch(self, index: int, future: Any) -> None:  # noqa: ANN401  Lithops has no types
        try:
            # Raising, as it does by default, it would also replace sys.excepthook.
            reply = future.result(throw_except=False, internal_storage=self._session.storage)
            # Errors of the function travel in the reply: this one is of Lithops, or of the worker.
            reason = str(future._exception[1]) if future.error else "its value never appeared in storage"  # noqa: SLF001  not raised, it is nowhere else
        except Exception as error:  # noqa: BLE001  what a worker left may be of any kind; the call is lost with it
            reply, reason = None, f"what it reported cannot be read: {error!r}"
        if reply is None:
            self._give_up(index, reason)
        else:
            self._outcomes.put(received(index, self._name, reply))

    def _give_up(self, index: int, reason: str) -> None:
        error = BackendError(f"Call {index} of {self._name} was lost: {reason}")
        self._outcomes.put(Outcome(index, error=error))

    def _lost(self) -> Iterator[tuple[int, str]]:
        if self._session.local_environment is not None:
            yield from self._dead()
        now, started = time.monotonic(), sum(not future.invoked for future in self._waiting.values())
        signs = (len(self._waiting), started)
        deadline = self._session.settings.start_deadline
        if signs != self._signs or started >= self._session.workers:
            self._signs, self._last_sign = signs, now
        elif now - self._last_sign > deadline:
            for index, future in self._waiting.items():
                if future.invoked:
                    yield (
                        index,
                        f"it had not started {deadline:g} s after the last call that started or ended. The backend "
                        "dropped it, or has less room than `workers` says: lower that, or raise start_deadline",
                    )

    def _dead(self) -> Iterator[tuple[int, str]]:
        # Lithops on this machine only logs that a worker ended; a call without a status stays "running".
        environment = self._session.local_environment
        for index, future in self._waiting.items():
            process = environment.task_processes.get(f"{self.job_key}-{future.call_id}")
            if process is not None:
                self._processes[index] = process
        all_ended = environment.jobs[self.job_key].done
        for index, future in self._waiting.items():
            process = self._processes.get(index)
            how = localhost.ending(process) if process is not None else "its process ended" if all_ended else None
            # A worker writes the status before it ends, so one that is missing now will not come.
            if how is not None and not _has_reported(future) and not self._has_status(future):
                if process is not None:
                    localhost.kill(process)
                yield index, f"{how} before it could report"

    def _has_status(self, future: Any) -> bool:  # noqa: ANN401  Lithops has no types
        try:
            return bool(self._session.storage.get_call_status(future.executor_id, future.job_id, future.call_id))
        except ValueError:  # half a status: the worker was killed while it wrote
            return False


def _has_reported(future: Any) -> bool:  # noqa: ANN401  Lithops has no types
    return bool(future.ready or future.success or future.done)


@cache
def _import_lithops() -> localhost.Home | None:
    """Import Lithops with a temporary directory of its own; None if somebody imported it before.

    Lithops takes its directory from `tempfile` in `lithops.constants`. Other threads may ask `tempfile` for
    files meanwhile, so that module alone is loaded ahead, which takes no time, and not the whole package.
    """
    if "lithops" in sys.modules:
        return None
    package = importlib.util.find_spec("lithops")
    if package is None or package.origin is None:
        raise BackendError("Lithops is not installed; `pip install frazil` brings it")
    spec = importlib.util.spec_from_file_location("lithops.constants", Path(package.origin).with_name("constants.py"))
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

    import lithops  # noqa: PLC0415  see above

    lithops.constants = constants
    # Without a handler of its own or of the application, its warnings would go to stderr.
    logging.getLogger("lithops").addHandler(logging.NullHandler())
    return home


def _configuration(settings: _Settings) -> tuple[dict[str, Any], bool]:
    """Lithops' configuration as it is to be, and whether it means this machine."""
    from lithops.config import load_config  # noqa: PLC0415  see above

    if settings.config is not None:
        config = deepcopy(dict(settings.config))
    else:
        config = load_config(settings.config_file and str(settings.config_file))
    section = config["lithops"] = dict(config.get("lithops") or {})
    if settings.backend is not None:
        section.pop("mode", None)
        section["backend"] = settings.backend
    elif not section.get("backend") and not section.get("mode"):
        section["backend"] = "localhost"
    local = (section.get("backend") or section.get("mode")) == "localhost"
    if local:
        section |= {"storage": "localhost", "monitoring": "storage", "monitoring_interval": _LOCAL_INTERVAL}
    else:
        if section.get("storage") == "localhost":
            del section["storage"]  # of Lithops' fallback for no configuration; refused for any other backend
        section.setdefault("monitoring_interval", _REMOTE_INTERVAL)
        _warn_of_secrets(config)
    section["data_limit"] = False  # it limits the arguments of all calls together, to 4 MiB
    section["data_cleaner"] = False
    return config, local


def _warn_of_secrets(config: Mapping[str, Any]) -> None:
    names = sorted(_secret_keys(config))
    if names:
        logger.warning(
            "Lithops' configuration holds %s. All of it travels to every call and can be read in the backend's logs "
            "and storage: remove them, and use a role, a profile or the environment",
            ", ".join(names),
        )


def _secret_keys(section: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _secret_keys(value, f"{path}{key}.")
        elif value and _SECRET.search(str(key)) and not _NOT_SECRET.search(str(key)):
            yield f"{path}{key}"


def _describe_runtime(runtime: str) -> Callable[[], None]:
    """Tell Lithops what it would start a process to find out, and keep in the home directory."""
    from lithops.constants import RUNTIMES_PREFIX  # noqa: PLC0415  see above
    from lithops.localhost.config import runtime_key  # noqa: PLC0415
    from lithops.storage.storage import RUNTIME_META_CACHE  # noqa: PLC0415
    from lithops.utils import CURRENT_PY_VERSION  # noqa: PLC0415
    from lithops.version import __version__  # noqa: PLC0415

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

    The names of job data begin with a session id, which Lithops reads from the environment, or invents with
    24 bits and exports. Processes started from this one would inherit it, and write over each other's data.
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
