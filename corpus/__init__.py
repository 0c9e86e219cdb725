"""Ground floor: what the pipeline and the trainer agree on. Imports no other folder of ours."""
