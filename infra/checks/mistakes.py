# /// script
# requires-python = ">=3.12,<3.14"
# dependencies = ["checkov==3.3.30"]
# ///
"""checkov as the lock beside this file has it, with all that it stands on; takes checkov's own arguments."""

import sys

from checkov.main import Checkov

if __name__ == "__main__":
    sys.exit(Checkov(sys.argv[1:]).run())
