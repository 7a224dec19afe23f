"""Simulated manipulation suites behind one interface."""
