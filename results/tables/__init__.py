"""Tables and statements: success, latency, time to success, sample size."""
