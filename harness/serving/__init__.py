"""Answer queries in batches, and carry queries and chunks between processes."""
