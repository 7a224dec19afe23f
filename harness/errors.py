"""Errors whose text is written for the person at the keyboard."""


class SimloopError(Exception):
    """What was wanted, what came, what to do: shown without a traceback by the command line."""
