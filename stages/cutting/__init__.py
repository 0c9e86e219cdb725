"""Where films are cut: cuts, dissolves and fades between shots, actions within them."""
