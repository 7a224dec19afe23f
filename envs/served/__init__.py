"""Suites in interpreters of their own: a child process simulates, this one sees an `Env`."""
