"""The file formats of models, by name; each names the module that has `load(path)`, and `save(model, path)`."""

FORMATS = {"diffusers_folder": "fromnoise.checkpoints.formats.diffusers_folder"}
