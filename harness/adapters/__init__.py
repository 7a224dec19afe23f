"""Map cameras, states and actions between suites and robot conventions."""
