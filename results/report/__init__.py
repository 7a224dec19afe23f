"""Pages of runs and episodes, figures and methods paragraphs."""
