"""EdgeTAM: SAM 2's network with a small image encoder and memories of few tokens."""
