"""Run folders: records, provenance, status and dashboards of a run."""
