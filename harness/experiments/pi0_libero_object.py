"""pi0 on LIBERO-Object, as openpi evaluates it: 98.8 % published.

    simloop run pi0_libero_object --checkpoint DIR

Expected: 98.8 % = 494 of 500, 95 % Wilson interval [97.4, 99.4].
Source: openpi, examples/libero/README.md before commit 35106c9.
"""

from simloop.harness.experiments._libero import published_libero

EXPERIMENT = published_libero("pi0_libero", "libero_object")
