"""Top floor: recipe -> plan -> Ray -> tables -> shards -> report, and the `tv2tv` command."""
