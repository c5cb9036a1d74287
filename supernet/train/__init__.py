"""Step 2: the one-shot model is trained; so are stand-alone networks, by the same loop."""
