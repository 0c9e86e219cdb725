"""Caption backends behind one small interface, and what the built-in ones are made of."""
