"""How films are read: in children that can be killed, by the clock, with damage told."""
