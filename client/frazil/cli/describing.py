"""The command that describes job files to other programs."""

import json

from frazil.cli.app import app
from frazil.cli.showing import write_out
from frazil.jobfile import schema as schema_of_job_files


@app.command
def schema() -> None:
    """Print the JSON schema of job files, which editors and checks in a CI can use."""
    write_out(json.dumps(schema_of_job_files(), indent=2))
