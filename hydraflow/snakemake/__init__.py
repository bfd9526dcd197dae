"""The Snakemake storage provider: `input: storage.hydra("https://host/file#sha256=…")`.

`provider` is what Snakemake sees, `settings` its options; `queries` reads URLs, `probes` asks the servers about them,
and `retrieval` brings the files.
"""
