"""The thin shells around the core: network, disk, pipes. Each maps foreign errors once, at its border."""
