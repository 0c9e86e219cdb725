"""What is measured of clips and captions; every number is stored, none decides here."""
