"""How fast policies answer, by stage, beside what the device could do."""
