"""pi0 on LIBERO-10 (also called Long), as openpi evaluates it: 85.2 % published.

    simloop run pi0_libero_10 --checkpoint DIR

Expected: 85.2 % = 426 of 500, 95 % Wilson interval [81.8, 88.0].
Source: openpi, examples/libero/README.md before commit 35106c9.
"""

from simloop.harness.experiments._libero import published_libero

EXPERIMENT = published_libero("pi0_libero", "libero_10")
