"""Label tables in the formats that people use, and back."""
