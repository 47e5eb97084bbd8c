"""What the user sets for Lithops, checked, and completed with what Frazil needs.

It knows Lithops' configuration keys, and does not import Lithops.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """What `LithopsExecutor` was made with; see there."""

    backend: str | None
    config: Mapping[str, Any] | None
    config_file: Path | None
    workers: int | None
    start_deadline: float
    call_timeout: float | None

    def __post_init__(self) -> None:
        if self.config is not None and self.config_file is not None:
            raise InvalidInputError("Lithops' configuration is given twice: pass config or config_file")
        if self.config_file is not None and not self.config_file.is_file():
            raise InvalidInputError(f"There is no Lithops configuration file {str(self.config_file)!r}")
        for name in ("workers", "start_deadline", "call_timeout"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InvalidInputError(f"{name} is {value}; it must be greater than zero")


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
        _warn_of_secrets(config)
    section["data_limit"] = False  # it limits the arguments of all calls together, to 4 MiB
    section["data_cleaner"] = False  # another process, which outlives this one by seconds
    return config, local


def _warn_of_secrets(config: Mapping[str, Any]) -> None:
    names = sorted(_secret_keys(config))
    if names:
        logger.warning(
            "Lithops' configuration holds %s. All of it travels in every call, where logs and storage of the "
            "backend can show it: remove them, and use a role, a profile or the environment",
            ", ".join(names),
        )


def _secret_keys(section: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _secret_keys(value, f"{path}{key}.")
        elif value and _SECRET.search(str(key)) and not _NOT_SECRET.search(str(key)):
            yield f"{path}{key}"
