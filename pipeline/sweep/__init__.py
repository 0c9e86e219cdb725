"""`tv2tv sweep`: what other thresholds would keep."""
