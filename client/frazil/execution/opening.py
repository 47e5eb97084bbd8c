"""Lithops as it has to be imported, configured and opened for Frazil.

The only module that imports Lithops, and not before the first call or `LithopsExecutor.warm`. What calls are, and
how they are watched, it does not know.
"""

import importlib.util
import logging
import os
import runpy
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from frazil.costing.limits import FunctionLimits
from frazil.execution import localhost
from frazil.execution.configuration import UNKNOWN_WORKERS, Settings, completed, limits_of, warn_of_secrets, workers_of
from frazil.runtime import metadata
from frazil.runtime.configuration import BACKEND as LAMBDA
from frazil.runtime.configuration import LambdaRuntime
from frazil.runtime.connection import Connection, identified
from frazil_functions.errors import BackendError, FrazilError, InvalidInputError, nearest

OPENING = threading.Lock()
"""Held while what belongs to the whole process is changed for Lithops' sake."""


def configured_workers(settings: Settings) -> int:
    """How many calls can run at once, without a connection to anything."""
    if settings.workers is not None:
        return settings.workers
    if settings.backend == "localhost":
        return localhost.cpus()
    with blamed_on_the_environment(settings), ExitStack() as stack:
        config, local = _configuration(settings, stack)
        if local:
            return localhost.cpus()
        return workers_of(config, _defaults)


def configured_local(settings: Settings) -> bool:
    """Whether calls run on this machine, without a connection to anything."""
    if settings.backend == "localhost":
        return True
    with blamed_on_the_environment(settings), ExitStack() as stack:
        return _configuration(settings, stack)[1]


def configured_limits(settings: Settings) -> FunctionLimits | None:
    """What a function may have, without a connection to anything; None where nothing limits it."""
    if settings.backend == "localhost":
        return None
    with blamed_on_the_environment(settings), ExitStack() as stack:
        config, local = _configuration(settings, stack)
        return None if local else limits_of(config, _defaults)


def check_configuration(settings: Settings) -> None:
    """Refuse a backend that does not exist, or that is not configured, without a connection to anything.

    Raises
    ------
    InvalidInputError
        If Lithops has no such backend, or its configuration lacks what it needs, or cannot be meant.
    BackendError
        If what Lithops needs for it is not installed.
    """
    if settings.backend == "localhost" and settings.config is None and settings.config_file is None:
        return
    with blamed_on_the_environment(settings), ExitStack() as stack:
        config, local = _configuration(settings, stack)
        section = config["lithops"]
        if section.get("backend"):
            _check_name(str(section["backend"]))
        if not local:
            _with_defaults(config)


def configuration(settings: Settings) -> dict[str, Any]:
    """The configuration as Lithops completes it, with every default, without a connection to anything.

    Raises
    ------
    InvalidInputError
        If Lithops has no such backend, or its configuration lacks what it needs, or cannot be meant.
    BackendError
        If what Lithops needs for it is not installed.
    """
    with blamed_on_the_environment(settings), ExitStack() as stack:
        config, _ = _configuration(settings, stack)
        if config["lithops"].get("backend"):
            _check_name(str(config["lithops"]["backend"]))
        return _with_defaults(config)


def _with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    from lithops.config import default_config  # noqa: PLC0415  at its first use, as all of Lithops

    try:
        found: dict[str, Any] = default_config(config_data=deepcopy(dict(config)))
    except ImportError:  # of the environment, and not of what the configuration says
        raise
    except Exception as error:  # what looks at a backend's section raises whatever its authors chose
        raise InvalidInputError(
            f"Lithops cannot use {config['lithops'].get('backend') or 'its configuration'}: {str(error).rstrip('. ')}. "
            "Mend Lithops' configuration (--lithops-config); docs/aws.md, docs/lithops-kubernetes.md and "
            "docs/lithops-cloud-run.md show a whole one each"
        ) from error
    return found


def _check_name(backend: str) -> None:
    package = importlib.util.find_spec("lithops")
    assert package is not None
    known = {"localhost", "serial"}
    for folder in package.submodule_search_locations or ():
        for kind in ("serverless", "standalone"):
            known |= {file.parent.name for file in Path(folder).glob(f"{kind}/backends/*/config.py")}
    if backend not in known:
        raise InvalidInputError(f"the backend cannot be {backend!r}; {nearest(backend, sorted(known))}")


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


@dataclass(frozen=True, slots=True)
class Opened:
    """A Lithops executor.

    Attributes
    ----------
    executor, constants
        Lithops' own executor, and its module of constants.
    local
        Whether its backend is this machine.
    workers
        How many calls it runs at once.
    runtime
        What is known of the function that it calls, if that is on Lambda.
    single
        Whether each call is invoked by itself, on a thread of Lithops, and not all calls of a job at once.
    """

    executor: Any
    constants: Any
    local: bool
    workers: int
    runtime: metadata.Metadata | None = None
    single: bool = False


def opened(settings: Settings, stack: ExitStack) -> Opened:
    """Make a Lithops executor; `stack` removes what it needs besides."""
    config, local = _configuration(settings, stack)
    # Lithops takes a tenth of a second and more to import; here and below it waits for its first use.
    from lithops import FunctionExecutor, constants  # noqa: PLC0415
    from lithops.utils import BackendType  # noqa: PLC0415

    workers = settings.workers or (localhost.cpus() if local else None)
    options: dict[str, Any] = {}
    runtime = None
    if config["lithops"].get("backend") == LAMBDA:
        runtime = _adopted(config, stack)
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
    with OPENING, _own_session_id(constants):
        # Of all log levels None alone leaves the logging of this process as it is.
        executor: Any = FunctionExecutor(config=config, log_level=None, **options)
    return Opened(
        executor,
        constants,
        local,
        workers or executor.invoker.max_workers or UNKNOWN_WORKERS,
        runtime,
        single=executor.compute_handler.get_backend_type() == BackendType.FAAS.value,
    )


def _adopted(config: Mapping[str, Any], stack: ExitStack) -> metadata.Metadata:
    """The metadata of the function on Lambda; refuse one that is missing.

    Lithops itself would make a bucket that is missing, and the function, with retries that would write in the place of
    the client's. It would also believe a copy of the metadata on this machine's disk, however old.
    """
    from lithops.storage.storage import RUNTIME_META_CACHE  # noqa: PLC0415  at its first use, as all of Lithops

    runtime = LambdaRuntime.of(_with_defaults(config))
    connection = Connection.of(runtime)
    runtime = identified(runtime, connection)
    found = metadata.adopted(runtime, connection)
    RUNTIME_META_CACHE[runtime.metadata_key] = found.as_json()
    stack.callback(RUNTIME_META_CACHE.pop, runtime.metadata_key, None)
    return found


def pickler() -> Callable[[object], bytes]:
    """Lithops' own pickling, which also carries what is defined in a script or a notebook."""
    from lithops.job.serialize import SerializeIndependent  # noqa: PLC0415  at its first use

    pickles = SerializeIndependent([])
    return lambda value: bytes(pickles.dumps([value])[0])


@contextmanager
def blamed_on_the_environment(settings: Settings) -> Iterator[None]:
    """Raise BackendError for whatever backends and cloud libraries raise."""
    try:
        yield
    except FrazilError:
        raise
    except Exception as error:  # every backend and cloud library raises errors of its own
        raise BackendError(
            f"Lithops cannot use {settings.backend or 'the configured backend'}: {str(error).rstrip('. ')}. "
            "Check the backend's name, its section of Lithops' configuration, and credentials; "
            "`lithops hello` tries them without Frazil"
        ) from error


def _configuration(settings: Settings, stack: ExitStack) -> tuple[dict[str, Any], bool]:
    """Lithops' configuration, completed, and whether its backend is this machine; imports Lithops."""
    with OPENING:
        home = import_lithops()
        if home is not None:
            home.enter()
            stack.callback(home.leave)
    from lithops.config import load_config  # noqa: PLC0415  at its first use, as all of Lithops

    found = settings.config
    if found is None:
        found = _loaded(load_config, settings.config_file)
    config, local = completed(found, settings.backend)
    if not local and not settings.warned.is_set():
        settings.warned.set()
        warn_of_secrets(config)
    return config, local


def _loaded(load_config: Callable[[str | None], object], file: Path | None) -> Mapping[str, Any]:
    """The configuration of a file, or the one that Lithops finds."""
    from yaml import YAMLError  # noqa: PLC0415  as Lithops, which brings it

    where = f"Lithops' configuration file {file}" if file else "the configuration file that Lithops finds"
    try:
        found = load_config(str(file) if file else None)
    except YAMLError as error:
        raise InvalidInputError(f"{where} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, Mapping):
        raise InvalidInputError(f"{where} holds no sections such as lithops: and aws_lambda:; see docs/aws.md for one")
    return found


@cache
def import_lithops() -> localhost.Home | None:
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
