"""Serve the pages of runs on one port of this machine (`simloop view`)."""
