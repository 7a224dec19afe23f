"""`python -m simloop.policies.bench`: see `command`. Runs from a source tree with Python, numpy, jax and flax alone."""

import sys

from simloop.policies.bench.bare import without_jaxtyping

without_jaxtyping()

from simloop.policies.bench.command import main  # noqa: E402

sys.exit(main())
