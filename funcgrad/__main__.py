"""`python -m funcgrad`: the command, where it is not on the PATH."""

import sys

from funcgrad.cli import main

if __name__ == "__main__":
    sys.exit(main())
