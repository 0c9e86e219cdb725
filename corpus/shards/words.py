"""What every card says."""

NOTES = {
    "what": """\
Each sample is a clip of video as the latents of a codec, with captions that are tied to the
chunks of time they speak of. It was made from films by the TV2TV pipeline. Samples are WebDataset:
`<key>.latent.npy`, `<key>.captions.json`, `<key>.json`. There is no pickle and no code in them.
`samples.parquet` tells where every member lies, `manifest.json` has the SHA-256 of every file.""",
    "limits": """\
## Limits

* A clip's latents start at its first frame; a part cannot be cut out of their middle.
* Captions were written by the models named above, or came with the films. Rejected ones are here,
  too, with the reason as their `verdict`; what is good enough is for the reader to decide.
* Licences and sources are as the rows of the films told them. Nobody has checked them here.""",
}

LOADING = """\
## Loading

```python
from datasets import load_dataset                    # datasets >= 5

rows = load_dataset("FOLDER", split="train", streaming=True)
row = next(iter(rows))                               # row["latent.npy"], row["captions.json"], ...
```

```python
import webdataset

samples = webdataset.WebDataset("FOLDER/shard-000000.tar", shardshuffle=False).decode()
```

Without a library: the tars are plain ustar, the arrays plain npy; docs/format.md of TV2TV says the
rest. `tv2tv verify FOLDER` checks every byte, `tv2tv inspect FOLDER KEY` shows one sample."""
