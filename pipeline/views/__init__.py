"""Labels to look at: films, contact sheets, pages."""
