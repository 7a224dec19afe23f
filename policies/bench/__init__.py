"""Latency and throughput of policies by stage, compared with the roofline of the device."""
