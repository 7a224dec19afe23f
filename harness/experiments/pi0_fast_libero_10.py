"""pi0-FAST on LIBERO-10 (also called Long), as openpi evaluates it: 60.2 % published.

    simloop run pi0_fast_libero_10 --checkpoint DIR

Expected: 60.2 % = 301 of 500, 95 % Wilson interval [55.8, 64.4].
Source: openpi, examples/libero/README.md before commit 35106c9.
"""

from simloop.harness.experiments._libero import published_libero

EXPERIMENT = published_libero("pi0_fast_libero", "libero_10")
