"""Downloads, the cache folder and command lines from dataclasses."""
