"""From pending videos to committed parts on Ray actors."""
