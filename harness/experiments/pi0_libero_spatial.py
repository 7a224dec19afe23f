"""pi0 on LIBERO-Spatial, as openpi evaluates it: 96.8 % published.

    simloop run pi0_libero_spatial --checkpoint DIR

Expected: 96.8 % = 484 of 500, 95 % Wilson interval [94.9, 98.0].
Source: openpi, examples/libero/README.md before commit 35106c9.
"""

from simloop.harness.experiments._libero import published_libero

EXPERIMENT = published_libero("pi0_libero", "libero_spatial")
