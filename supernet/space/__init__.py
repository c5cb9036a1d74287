"""Step 1: what can be chosen. Choices in a network, the one-shot model and the networks that are left of it."""
