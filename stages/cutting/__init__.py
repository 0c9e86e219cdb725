"""Where films are cut (between shots, into windows, between actions) and what clips look like."""
