"""What is made of finished runs for a person to read."""
