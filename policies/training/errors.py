"""Errors of training, written for users."""


class TrainingError(Exception):
    """A training run that cannot start or continue; the message says what to do."""

    user_facing = True
