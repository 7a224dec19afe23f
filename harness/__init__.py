"""The closed loop: plans, rollouts, Ray actors, recording and the command line."""
