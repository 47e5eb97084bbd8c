"""The command that advises on chunks."""

from typing import Annotated

from cyclopts import Parameter

import frazil.analyzing
from frazil.advising.choose import Reading
from frazil.advising.wish import reading_of, size_of
from frazil.cli.app import app
from frazil.cli.given import FromFile
from frazil.cli.options import Backend, Shown
from frazil.cli.showing import listening, write_out
from frazil.execution.serial import SerialExecutor
from frazil.jobfile.spelling import Names


@app.command(usage="Usage: frazil analyze FILES... [OPTIONS]\n       frazil analyze --config FILE [OPTIONS]")
def analyze(  # noqa: PLR0913 - an option each
    *paths: str,
    file: FromFile | None = None,
    reading: str = "balanced",
    target_size: str = "16MiB",
    append_dim: str | None = None,
    variables: Names | None = None,
    engine: str | None = None,
    sample: Annotated[bool, Parameter(negative=())] = False,
    backend: Backend | None = None,
    shown: Shown | None = None,
) -> None:
    """Advise on chunks, shards and packing, and write nothing; metadata alone are read.

    Parameters
    ----------
    paths
        Files (paths, URLs, globs, text files of them); none where a job file names them.
    reading
        What is to be read fast: temporal (a time series at a point), spatial (a map at one time) or balanced (both).
    target_size
        The most bytes that a chunk has before compression, as in 16MiB.
    append_dim
        The dimension that files follow each other on; inferred where only one can be meant.
    variables
        Names of the variables to look at; all by default.
    engine
        The Xarray engine that opens the files; told by their first bytes by default.
    sample
        Read up to 4 MiB of every variable, too, to estimate how well it compresses and packs.
    """
    shown, file = shown or Shown(), file or FromFile()
    sources = file.files(paths, "analyze")
    wanted: Reading = reading_of(reading, "--reading")
    nbytes = size_of(target_size, "--target-size")
    with (
        file.explaining(),
        listening(shown) as listener,
        backend.executor() if backend is not None else SerialExecutor() as executor,
    ):
        found = frazil.analyzing.analyze(
            sources,
            reading=wanted,
            target_size=nbytes,
            append_dim=append_dim,
            variables=variables,
            engine=engine,
            sample=sample,
            executor=executor,
            listener=listener,
        )
    write_out(found.to_json().decode() if shown.json else repr(found))
