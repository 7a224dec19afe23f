"""The only code that knows both a suite and a robot convention: cameras, state vector, actions."""
