"""One module per command of `simloop`, each with a function or app named `command`.

Modules import what a command needs inside the function, so that help texts appear without loading JAX, Ray or pandas.
"""
