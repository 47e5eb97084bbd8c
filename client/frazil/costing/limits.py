"""What a function may have, where a backend sets that: memory and time."""

from dataclasses import dataclass
from typing import Final

_VCPU_BYTES: Final = 1769 << 20
"""Bytes of memory for which AWS Lambda gives one virtual processor ("Configure Lambda function memory")."""

_MOST_VCPUS: Final = 6.0
"""That of the largest function."""

AWS_LAMBDA: Final = "aws_lambda"


@dataclass(frozen=True, slots=True)
class FunctionLimits:
    """The memory, the time and the processor that one function has.

    Attributes
    ----------
    backend
        Lithops' name of the backend.
    memory_bytes
        The memory that the function is given; more ends it.
    timeout
        Seconds after which a call is ended; None if nothing says it.
    region
        The cloud's region, if the configuration names it.
    architecture
        "x86_64" or "arm64".
    cpus
        Virtual processors, where the configuration sets them; on AWS Lambda they follow from the memory.
    """

    backend: str
    memory_bytes: int
    timeout: float | None = None
    region: str | None = None
    architecture: str = "x86_64"
    cpus: float | None = None

    @property
    def processors(self) -> float:
        """Virtual processors of a function."""
        if self.cpus is not None:
            return self.cpus
        return min(_MOST_VCPUS, self.memory_bytes / _VCPU_BYTES) if self.backend == AWS_LAMBDA else 1.0

    @property
    def memory_mb(self) -> int:
        """The memory as Lithops' `runtime_memory` has it, in MiB."""
        return self.memory_bytes >> 20
