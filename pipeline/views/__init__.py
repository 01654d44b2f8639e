"""Views of labels: films, contact sheets, pages."""
