"""SAM 3's tracker: SAM 2's network behind another image encoder."""
