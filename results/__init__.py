"""What the rollouts say: records, intervals, tables. Needs neither JAX nor Ray."""
