"""The commands: one file each. Only this folder knows the run folder."""
