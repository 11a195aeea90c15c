"""How the pages of the site are made: what stands in the code is written into them, never twice by hand."""
