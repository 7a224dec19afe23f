"""Training of pi0-family policies on demonstrations. Needs neither Ray nor a simulator."""
