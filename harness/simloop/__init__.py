"""Robot policies of the pi0 family, evaluated closed-loop in simulation."""
