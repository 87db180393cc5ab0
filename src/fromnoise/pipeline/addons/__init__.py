"""KINDS: what a request can put on a model, in the order in which it is put on.

Each row is a field of addon_fields.Addons and the module of this folder for it. The module has
`put_on(model, unet, request, items) → (model, unet, notes)`: copies that differ from what was given
by these items; nothing that was given changes."""

KINDS = {
    "loras": "lora",
    "embeddings": "embedding",
    "ip_adapters": "ip_adapter",
    "controls": "control",  # after all that changes the network, which it runs beside
}
