"""Errors raised when a requested analysis is impossible."""


class ResultsError(ValueError):
    """The records cannot answer the question; the text states what was wanted and what was found."""

    user_facing = True
