"""Label tables written in other tools' formats, and read back."""
