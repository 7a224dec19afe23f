"""pi0.5 on LIBERO-Object, as openpi evaluates it: 98.2 % published.

    simloop run pi05_libero_object --checkpoint DIR

Expected: 98.2 % = 491 of 500, 95 % Wilson interval [96.6, 99.1].
Source: openpi, examples/libero/README.md.
"""

from simloop.harness.experiments._libero import published_libero

EXPERIMENT = published_libero("pi05_libero", "libero_object")
