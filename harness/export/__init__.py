"""Write recorded episodes for other programs: Rerun, LeRobot, Foxglove, and readers of Parquet."""
