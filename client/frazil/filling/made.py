"""What was made of a template: which labels a group has, and which of its variables got a value that means missing."""

import logging
from dataclasses import dataclass, field, fields
from typing import Any

from frazil.labels.join import show
from frazil.labels.place import grid_of
from frazil.labels.stepping import LabelRange, frequency
from frazil.planning.scan import Sources
from frazil.report import Result
from frazil_functions.plan import Plan
from frazil_functions.reading.encoding import bounded_attributes, is_time_unit
from frazil_functions.reading.scanning import FileMetadata
from frazil_functions.reading.times import calendar_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """What a group has that was made like a template.

    Attributes
    ----------
    append_dim
        The dimension that has the range of labels.
    first_label, last_label, labels
        The ends of the range as a person reads them, and how many labels there are.
    freq, freq_inferred
        From one label to the next, and whether the template's labels told it.
    fill_values
        Of the variables that got a `_FillValue`, which the template does not have.
    """

    append_dim: str
    first_label: str
    last_label: str
    labels: int
    freq: str
    freq_inferred: bool
    fill_values: dict[str, float]

    def __str__(self) -> str:
        """In lines of a summary."""
        how = "as the template's labels are" if self.freq_inferred else "as given"
        said = (
            f"{self.append_dim!r} from {self.first_label} to {self.last_label}: {self.labels} labels, {self.freq} apart"
        )
        fills = ", ".join(f"{name}={value}" for name, value in self.fill_values.items())
        return f"{said} ({how})" + (f"\n_FillValue, for what is not written yet: {fills}" if fills else "")


@dataclass(frozen=True, slots=True)
class TemplateResult(Result):
    """What a run did that made a group like a template.

    Attributes
    ----------
    made
        What it determined.
    """

    made: Made = field(kw_only=True)

    @classmethod
    def of(cls, result: Result, made: Made) -> "TemplateResult":
        """The result of the run, with what it made."""
        known: dict[str, Any] = {one.name: getattr(result, one.name) for one in fields(Result)}
        return cls(**known, made=made)


def made_of(found: Sources, plan: Plan, span: LabelRange) -> Made:
    """What a plan makes of a template, which is logged, too."""
    (template,), dim = found.files, plan.template.append_dim
    assert dim is not None
    own, values = grid_of(template, dim, found.labels), plan.template.labels[dim].values()
    assert own is not None
    made = Made(
        append_dim=dim,
        first_label=show(values[0], own.attributes),
        last_label=show(values[-1], own.attributes),
        labels=len(values),
        freq=frequency(dim, own.url, own.values, own.attributes, span),
        freq_inferred=span.freq is None,
        fill_values={
            name: one.attributes["_FillValue"]
            for name, one in plan.template.arrays.items()
            if one.role == "empty"
            and "_FillValue" in one.attributes.keys() - template.variables[name].attributes.keys()
        },
    )
    _warn(template, plan, made)
    logger.info("makes %s", "; ".join(str(made).splitlines()), extra={"event": "template"} | _logged(made))
    return made


def _warn(template: FileMetadata, plan: Plan, made: Made) -> None:
    """Tell what readers will find odd as long as not all is written, or later."""
    told = {name: one.attributes for name, one in template.variables.items()}
    empty = [one for one in plan.template.arrays.values() if one.role == "empty"]
    counting = {one.name: bounded_attributes(one.name, told) for one in empty}
    wide = [one.name for one in empty if one.name in made.fill_values and one.dtype[1:] in {"i8", "u8"}]
    wide = [name for name in wide if not is_time_unit(counting[name].get("units"))]
    if wide:
        logger.warning(
            "%s got a _FillValue, so Xarray reads these whole numbers of 64 bits as doubles, which hold them up to "
            "2**53 alone; make them smaller first (astype('i4')) if none is larger",
            ", ".join(wide),
        )
    calendars = {
        name: calendar_name(one.get("calendar")) for name, one in counting.items() if is_time_unit(one.get("units"))
    }
    undecoded = [name for name, calendar in calendars.items() if calendar not in {"standard", "proleptic_gregorian"}]
    if undecoded:
        logger.warning(
            "Xarray cannot decode %s (calendar %s) before the first and the last value are written; until then open "
            "the group with decode_times=False or drop_variables, or leave these out of it (--variables)",
            ", ".join(undecoded),
            calendars[undecoded[0]],
        )


def _logged(made: Made) -> dict[str, Any]:
    return {one.name: getattr(made, one.name) for one in fields(Made)}
