"""What users have, as samples, and what identifies it."""
