"""Collect demonstrations from scripted experts, optionally from states that a policy visited (DAgger)."""
