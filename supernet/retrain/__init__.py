"""Step 4: finalists are trained from scratch, and tested once."""
