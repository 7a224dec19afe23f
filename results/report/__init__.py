"""HTML reports, figures and methods paragraphs."""
