"""pi0.5 on LIBERO-Goal, as openpi evaluates it: 98.0 % published.

    simloop run pi05_libero_goal --checkpoint DIR

Expected: 98.0 % = 490 of 500, 95 % Wilson interval [96.4, 98.9].
Source: openpi, examples/libero/README.md.
"""

from simloop.harness.experiments._libero import published_libero

EXPERIMENT = published_libero("pi05_libero", "libero_goal")
