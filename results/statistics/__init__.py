"""Intervals, paired and unpaired comparisons, multiple testing, sequential tests."""
