"""Open, replay, step through and fork episodes: one process without Ray, and forks at scale."""
