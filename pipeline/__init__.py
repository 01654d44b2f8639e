"""sam2-corpus: label large video corpora with SAM 2, from a prompt manifest to queryable mask tables."""
