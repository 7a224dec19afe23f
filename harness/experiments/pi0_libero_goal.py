"""pi0 on LIBERO-Goal, as openpi evaluates it: 95.8 % published.

    simloop run pi0_libero_goal --checkpoint DIR

Expected: 95.8 % = 479 of 500, 95 % Wilson interval [93.7, 97.2].
Source: openpi, examples/libero/README.md before commit 35106c9.
"""

from simloop.harness.experiments._libero import published_libero

EXPERIMENT = published_libero("pi0_libero", "libero_goal")
