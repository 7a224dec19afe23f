"""Episode and query records: schema, ledger files, and loading of runs."""
