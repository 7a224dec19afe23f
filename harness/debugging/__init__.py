"""Open, step through and fork episodes: sessions without Ray, and forks of recorded episodes at scale."""
