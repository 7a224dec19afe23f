"""Errors whose text is written for the person who starts a training."""


class TrainingError(Exception):
    """What was wanted, what came, what to do."""

    user_facing = True
