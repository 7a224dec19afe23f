"""pi0.5 on LIBERO-Spatial, as openpi evaluates it: 98.8 % published.

    simloop run pi05_libero_spatial --checkpoint DIR

Expected: 98.8 % = 494 of 500, 95 % Wilson interval [97.4, 99.4].
Source: openpi, examples/libero/README.md.
"""

from simloop.harness.experiments._libero import published_libero

EXPERIMENT = published_libero("pi05_libero", "libero_spatial")
