"""Pages that people look at: HTML from templates, with figures inside."""
