"""Pages of runs and episodes, methods paragraphs, and folders for papers."""
