"""pi0-FAST on LIBERO-Goal, as openpi evaluates it: 88.6 % published.

    simloop run pi0_fast_libero_goal --checkpoint DIR

Expected: 88.6 % = 443 of 500, 95 % Wilson interval [85.5, 91.1].
Source: openpi, examples/libero/README.md before commit 35106c9.
"""

from simloop.harness.experiments._libero import published_libero

EXPERIMENT = published_libero("pi0_fast_libero", "libero_goal")
