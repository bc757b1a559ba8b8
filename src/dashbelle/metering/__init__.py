"""What a call used, written down once."""
