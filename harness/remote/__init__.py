"""Policies that other programs serve: wire format, clients of policy servers, and child processes."""
