"""What is asked of records that they cannot answer."""


class ResultsError(ValueError):
    """A question without an answer in these records; the text says what was wanted and what there is."""
