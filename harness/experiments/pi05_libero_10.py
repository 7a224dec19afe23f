"""pi0.5 on LIBERO-10 (also called Long), as openpi evaluates it: 92.4 % published.

    simloop run pi05_libero_10 --checkpoint DIR

Expected: 92.4 % = 462 of 500, 95 % Wilson interval [89.7, 94.4].
Source: openpi, examples/libero/README.md.
"""

from simloop.harness.experiments._libero import published_libero

EXPERIMENT = published_libero("pi05_libero", "libero_10")
