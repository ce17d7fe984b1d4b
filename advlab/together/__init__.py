"""Chapter 5: all defences against all attacks, and what two papers together say."""
