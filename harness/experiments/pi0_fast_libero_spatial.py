"""pi0-FAST on LIBERO-Spatial, as openpi evaluates it: 96.4 % published.

    simloop run pi0_fast_libero_spatial --checkpoint DIR

Expected: 96.4 % = 482 of 500, 95 % Wilson interval [94.4, 97.7].
Source: openpi, examples/libero/README.md before commit 35106c9.
"""

from simloop.harness.experiments._libero import published_libero

EXPERIMENT = published_libero("pi0_fast_libero", "libero_spatial")
