"""What `simloop bench` measures."""
