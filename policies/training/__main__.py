"""`python -m simloop.policies.training`: see `command`."""

import sys

from simloop.policies.training.command import main

if __name__ == "__main__":
    sys.exit(main())
