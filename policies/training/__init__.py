"""Training of the pi0 family on demonstrations. Needs neither Ray nor a simulator."""
