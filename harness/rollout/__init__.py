"""Play one episode closed-loop in plain Python: no Ray, no files, no threads."""
