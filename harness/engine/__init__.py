"""Schedule episodes over env actors and policy workers: queue, pools, supervision, scaling."""
