"""`tv2tv plan`: what a run will give and take, from a sample that really runs."""
