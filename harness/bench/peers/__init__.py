"""The same episodes by other evaluation tools, each in an environment of its own, side by side."""
