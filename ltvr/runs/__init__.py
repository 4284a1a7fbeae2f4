"""What a run leaves behind: its folder, its checkpoints, and what it was measured on."""
