"""`python -m policies.training`: see `command`."""

import sys

from policies.training.command import main

if __name__ == "__main__":
    sys.exit(main())
