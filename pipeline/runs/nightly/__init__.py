"""Every night: manifests in, labels out, nothing done twice, one page about it."""
