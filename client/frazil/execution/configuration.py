"""What the user sets for Lithops, checked, and completed with what Frazil needs.

It knows Lithops' configuration keys, and does not import Lithops.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from frazil.costing.limits import FunctionLimits
from frazil_functions.errors import InvalidInputError

logger = logging.getLogger(__name__)

# Seconds between two readings of the statuses of calls. Lithops' default is 2, which every job would idle at
# its end. Listing a local directory is nearly free; in object storage it is one LIST request a second.
LOCAL_INTERVAL = 0.03
REMOTE_INTERVAL = 1.0

UNKNOWN_WORKERS = 1000
"""How many calls run at once where nothing says it; what Lithops assumes of Lambda."""

_SECRET = re.compile(
    r"secret|passw|token|access_key|api_?key|account_key|private_key|connection_string|amqp_url",
    re.IGNORECASE,
)
_NOT_SECRET = re.compile(r"_(path|file|name|arn)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `LithopsExecutor` was made with; see there.

    Attributes
    ----------
    warned
        Set once the user was warned of secrets in the configuration, which is read more than once.
    """

    backend: str | None
    config: Mapping[str, Any] | None
    config_file: Path | None
    workers: int | None
    start_deadline: float
    call_timeout: float | None
    warned: Event = field(default_factory=Event, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.config is not None and self.config_file is not None:
            raise InvalidInputError("Lithops' configuration is given twice: pass config or config_file")
        if self.config_file is not None and not self.config_file.is_file():
            raise InvalidInputError(f"There is no Lithops configuration file {str(self.config_file)!r}")
        for name in ("workers", "start_deadline", "call_timeout"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InvalidInputError(f"{name} is {value}; it must be greater than zero, and finite")


def workers_of(config: Mapping[str, Any], defaults: Callable[[str], Mapping[str, Any]]) -> int:
    """How many calls a backend that is not this machine runs at once.

    Parameters
    ----------
    config
        Lithops' configuration, as `completed` gives it.
    defaults
        Gives Lithops' defaults of a backend's own section, if they are asked for.
    """
    backend = config["lithops"].get("backend")
    if not backend:  # a mode alone: Lithops chooses the backend
        return UNKNOWN_WORKERS
    own = (config.get(backend) or {}).get("max_workers")
    return int(own or defaults(backend).get("max_workers") or UNKNOWN_WORKERS)


def limits_of(config: Mapping[str, Any], defaults: Callable[[str], Mapping[str, Any]]) -> FunctionLimits | None:
    """What a function of a backend may have; None for one whose functions have no memory of their own.

    Parameters
    ----------
    config
        Lithops' configuration, as `completed` gives it.
    defaults
        Gives Lithops' defaults of a backend's own section, if they are asked for.

    Raises
    ------
    InvalidInputError
        If the configuration says what cannot be meant.
    """
    backend = str(config["lithops"].get("backend") or "")
    if not backend:  # a mode alone: Lithops chooses the backend
        return None
    if config.get(backend) is None and backend != "k8s":  # not configured, which is for `check` to say
        return None
    # As Lithops has it: what the provider's section says holds for its backends, unless they say otherwise.
    provider = config.get(backend.partition("_")[0]) or {}
    own = {**defaults(backend), **(provider if isinstance(provider, Mapping) else {}), **(config.get(backend) or {})}
    memory, timeout, cpus = (own.get(name) for name in ("runtime_memory", "runtime_timeout", "runtime_cpu"))
    if memory is None:
        return None
    for name, value in (("runtime_memory", memory), ("runtime_timeout", timeout), ("runtime_cpu", cpus)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < float("inf")):
            raise InvalidInputError(
                f"{name} of {backend} is {value!r} in Lithops' configuration; give a number above zero"
            )
    region = own.get("region") or own.get("region_name")
    return FunctionLimits(
        backend=backend,
        memory_bytes=int(memory * 2**20),
        timeout=None if timeout is None else float(timeout),
        region=str(region) if region else None,
        architecture=str(own.get("architecture") or "x86_64"),
        cpus=None if cpus is None else float(cpus),
    )


def completed(found: Mapping[str, Any], backend: str | None) -> tuple[dict[str, Any], bool]:
    """Lithops' configuration as it is to be, and whether its backend is this machine.

    Parameters
    ----------
    found
        The configuration that the user gave, or that Lithops found.
    backend
        The backend to use, whatever the configuration says.
    """
    config = deepcopy(dict(found))
    section = config["lithops"] = dict(config.get("lithops") or {})
    if backend is not None:
        section.pop("mode", None)
        section["backend"] = backend
    elif not section.get("backend") and not section.get("mode"):
        section["backend"] = "localhost"
    local = (section.get("backend") or section.get("mode")) == "localhost"
    if local:
        section |= {"storage": "localhost", "monitoring": "storage", "monitoring_interval": LOCAL_INTERVAL}
    else:
        if section.get("storage") == "localhost":
            del section["storage"]  # so Lithops fills in for a missing file; it refuses it for other backends
        section.setdefault("monitoring_interval", REMOTE_INTERVAL)
    section["data_limit"] = False  # it limits the arguments of all calls together, to 4 MiB
    section["data_cleaner"] = False  # another process, which outlives this one by seconds
    return config, local


def warn_of_secrets(config: Mapping[str, Any]) -> None:
    """Warn of what looks like a secret in the configuration of a backend that is not this machine."""
    names = sorted(secret_keys(config))
    if names:
        logger.warning(
            "Lithops' configuration holds %s. All of it travels in every call, where logs and storage of the "
            "backend can show it: remove them, and use a role, a profile or the environment",
            ", ".join(names),
        )


def secret_keys(section: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The names of what looks like a secret in a configuration, without what it is."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from secret_keys(value, f"{path}{key}.")
        elif value and _SECRET.search(str(key)) and not _NOT_SECRET.search(str(key)):
            yield f"{path}{key}"
