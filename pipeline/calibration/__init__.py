"""How far scores can be trusted: known damage, and what notices it (`tv2tv calibrate`); a scorer
and a classifier made from the corpus itself (`tv2tv scorer fit`, `tv2tv classifier fit`)."""
