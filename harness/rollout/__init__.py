"""The closed loop of one episode, in plain Python: no Ray, no files, no threads."""
