"""Base class of the errors that the harness reports to its user."""


class SimloopError(Exception):
    """State what was wanted, what was found and what to do about it."""

    user_facing = True
    """The command line prints the message of such an exception without a traceback."""


class SpecificationError(SimloopError):
    """Raised for a specification of a policy or suite that cannot be read, or that denotes none."""
