"""Where media are stored, and how URLs to them are signed."""
